"""The command line from the outside: help, versions, mistakes, and where its words go."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon import __version__
from medrecon.cli.app import VERBS as COMMANDS
from medrecon.cli.app import main

VERBS = tuple(verb.name for verb in COMMANDS)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_help_imports_nothing_heavy() -> None:
    """That of each verb, one after the other in one process."""
    code = (
        "import sys\n"
        "from medrecon.cli.app import main\n"
        "heavy = {'torch', 'monai', 'numpy', 'pydicom', 'nibabel', 'SimpleITK', 'matplotlib'}\n"
        "for verb in ([], *([verb] for verb in sys.argv[1:])):\n"
        "    try: main([*verb, '--help'])\n"
        "    except SystemExit as end: assert not end.code, (verb, end.code)\n"
        "    assert not heavy & set(sys.modules), (verb, heavy & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *VERBS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: medrecon") == len(VERBS) + 1


def test_bad_input_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    """By every verb that reads a scan, one after the other in one process."""
    contents = {"empty": b"", "zeros": b"\0" * 400, "text": b"no scan"}
    for name, content in contents.items():
        (tmp_path / f"{name}.nii").write_bytes(content)
    bad, good = "bad.nii", tmp_path / "out"
    words: dict[str, list[object]] = {
        "scans": [bad],
        "reconstruct": [bad, good],
        "encode": [bad, good],
        "compare": [bad, bad],
        "invert": [bad, good, "--layers", "relu1_1", "--encoder", "vgg16"],
        "features": [bad, good, "--encoder", "vgg16"],
        "atlas": [bad, good],
        "audit": [bad, good],
    }
    code = (
        "import json, sys\n"
        "from medrecon.cli.app import main\n"
        "for verb, *words in json.loads(sys.argv[1]):\n"
        "    try: main([verb, *words])\n"
        "    except SystemExit as end: assert end.code == 3, (verb, words, end.code)\n"
        "    heavy = {'torch', 'monai', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (verb, words, heavy)\n"
    )
    lines = [
        [verb, *(str(tmp_path / f"{name}.nii" if word == bad else word) for word in given)]
        for name in contents
        for verb, given in words.items()
    ]
    told = json.dumps(lines)
    done = subprocess.run([sys.executable, "-c", code, told], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert all(done.stderr.count(f"{name}.nii") >= len(words) for name in contents), done.stderr


def test_help_takes_less_than_half_a_second() -> None:
    """In processor time, which other programs on the machine change less than the clock's."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "medrecon", "--help"]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.5


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"medrecon {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["recontruct", "a", "b"], "reconstruct"),
        (["layers", "--jsn"], "--json"),
        (["reconstruct", "a", "b", "--layer", "level3"], "--layers"),
        (["reconstruct", "a", "b", "--format", "dicon"], "dicom"),
        (["reconstruct", "a"], "OUTPUT"),
        (["reconstruct", "a", "b", "--volume", "first"], "--volume"),
    ],
)
def test_mistakes_on_the_command_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], near: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert near in err
    assert "--help" in err


def test_mistakes_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "scans", "--json")
    assert code == 2
    assert err.count("\n") == 1
    error = json.loads(out)["error"]
    assert error["exit_code"] == 2
    assert set(error) == {"path", "message", "remedy", "exit_code"}


def test_options_of_the_program_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["layers", "--bundle", "nonesuch", "--debug"], ["--debug", "layers", "-b", "nonesuch"]):
        code, _, err = run(capsys, *arguments)
        assert code == 4
        assert "Traceback" in err
    code, _, err = run(capsys, "layers", "--bundle", "nonesuch")
    assert code == 4
    assert "Traceback" not in err


def test_an_unknown_bundle_names_the_near_ones(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medrecon.bundle.config._PLACES", (tiny_bundle.parent,))
    code, out, err = run(capsys, "layers", "--bundle", "tinny")
    assert (code, out) == (4, "")
    assert err.startswith("medrecon: tinny: no such bundle: did you mean 'tiny'?")
    assert err.count("\n") == 1


def test_layers(capsys: pytest.CaptureFixture[str], tiny_bundle: Path) -> None:
    code, out, err = run(capsys, "layers", "--bundle", tiny_bundle)
    assert (code, err) == (0, "")
    assert "coarse4" in out
    assert "4x4x4" in out
    code, out, _ = run(capsys, "layers", "--bundle", tiny_bundle, "--json")
    assert code == 0
    rows = json.loads(out)["layers"]
    assert rows[0] == {
        "name": "coarse2",
        "channels": 1,
        "stride": [2, 2, 2],
        "values_per_voxel": 0.125,
        "receptive_field": [2, 2, 2],
    }


@pytest.mark.parametrize("arguments", ["--help", "scans t1.nii.gz --json"])
def test_a_closed_pipe_is_no_traceback(
    tmp_path: Path, make_nifti: Callable[..., object], arguments: str
) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    command = f"(sleep 0.3; {sys.executable} -m medrecon {arguments}; echo code $? >&2) | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stderr in ("code 141\n", "code 1\n")


@pytest.mark.parametrize(
    ("typed", "offered"), [("medrecon rec", "reconstruct"), ("medrecon reconstruct --bun", "--bundle")]
)
def test_shells_complete_verbs_and_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    monkeypatch.setenv("_MEDRECON_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    code, out, _ = run(capsys)
    assert (code, out.split()) == (0, [offered])


def test_threads_leave_shared_cores_alone_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecon.__main__ import main as command

    monkeypatch.setattr(sys, "argv", ["medrecon", "--version"])
    for given, kept in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        with pytest.raises(SystemExit):
            command()
        assert os.environ["OMP_WAIT_POLICY"] == kept
