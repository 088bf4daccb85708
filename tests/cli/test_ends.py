"""How the command ends: closed and full streams, terminals of few letters, signals, limits of the system."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medrecon.cli.faults import fault_of
from medrecon.errors import in_short, ran_out_of

from .conftest import Run

ROOT = Path(__file__).resolve().parents[2]
STREAMS = {
    "stdout closed": (">&-", 5), "stdout full": (">/dev/full", 5), "stderr closed": ("2>&-", 0),
    "stderr full": ("2>/dev/full", 0), "both closed": (">&- 2>&-", 5), "stdin closed": ("<&-", 0),
    "reader gone": ("| true", None),
}  # fmt: skip
LESS = ("stderr full", "stdin closed")
"""What the quick tests leave out: a process for each takes long."""


def shell(line: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}
    command = f"{sys.executable} -m medrecon {line}"
    return subprocess.run(
        ["bash", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, "") for name in STREAMS if name not in LESS),
        *(pytest.param(name, "", marks=pytest.mark.slow) for name in LESS),
        *(pytest.param(name, "--json", marks=pytest.mark.slow) for name in STREAMS),
    ],
)
def test_streams(name: str, how: str, tmp_path: Path, make_nifti) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    redirection, code = STREAMS[name]
    done = shell(f"scans {tmp_path} {how} {redirection}")
    assert code is None or done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == (1 if name in ("stdout closed", "stdout full") else 0), (
        done.stderr
    )


@pytest.mark.parametrize(
    ("redirection", "how"),
    [
        (">/dev/full", "--json"),
        (">&- 2>&-", "--json"),
        *(pytest.param(each, "--json", marks=pytest.mark.slow) for each in (">&-", "2>&-", "2>/dev/full")),
        *(
            pytest.param(each, "", marks=pytest.mark.slow)
            for each in (">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full")
        ),
    ],
)
def test_errors_where_streams_are_closed(redirection: str, how: str, tmp_path: Path) -> None:
    done = shell(f"scans {tmp_path}/nowhere {how} {redirection}")
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr


@pytest.mark.parametrize("how", ["", "--json", "--names-from-source", "--json --names-from-source"])
@pytest.mark.slow
def test_a_terminal_that_knows_ascii_alone(how: str, tmp_path: Path, make_nifti) -> None:
    make_nifti(tmp_path / "Müller_脳.nii.gz")
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(f"scans {tmp_path} {how}", **plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    done = shell(f"scans {tmp_path}/Müller_none {how}", **plain)
    assert done.returncode == 3
    assert done.stderr.isascii()


def test_sigterm_is_in_the_table_and_one_line(tmp_path: Path) -> None:
    assert "143 terminated" in shell("--help").stdout
    code = (
        "import os, signal, time; from medrecon.cli.session import Session\n"
        "def work():\n    print('ready', flush=True); os.kill(os.getpid(), signal.SIGTERM); time.sleep(300)\n"
        "Session().run(work)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.splitlines()[-1] == "medrecon: terminated"
    assert time.monotonic() - begin < 200


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("can't start new thread"), 6),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 6),
        (OSError(errno.EMFILE, "Too many open files", "a.dcm"), 6),
        (OSError(errno.ENFILE, "Too many open files in system"), 6),
        (RecursionError("maximum recursion depth exceeded"), 3),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), 5),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), 5),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "out"), 5),
    ],
    ids=str,
)
def test_limits_of_the_system(error: BaseException, code: int) -> None:
    fault = fault_of(error)
    assert fault.exit_code == code, fault
    assert "internal" not in fault.line()


def test_memory_that_runs_out_is_told_from_all_else() -> None:
    assert ran_out_of(MemoryError()) == "memory"
    assert ran_out_of(RuntimeError("DefaultCPUAllocator: can't allocate memory")) == "memory"
    assert ran_out_of(RuntimeError("the shapes differ")) == ran_out_of(ValueError("x")) == ""


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("\x1b[1mWeights\x1b[0m only load failed.\nIn PyTorch 2.6 ...", "Weights only load failed."),
        ("word " * 100, "word word word ..."),
        ("\x1b]0;title\x07plain", "plain"),
        ("", "ValueError"),
        ("a\tb  c\r\nd", "a b c"),
    ],
)
def test_what_a_library_says_is_whole_and_plain(said: str, short: str) -> None:
    assert in_short(ValueError(said), 16 if "word" in said else 160) == short


@pytest.mark.slow
def test_json_nested_deeply(tmp_path: Path) -> None:
    deep = "[" * 100_000
    done = shell(f"layers --encoder resnet18 --encoder-arguments '{deep}' --json")
    assert done.returncode in (2, 4), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(done.stdout)["error"]
    (tmp_path / "metrics.json").write_text(deep)
    done = shell(f"atlas {tmp_path}/out --compare {tmp_path} {tmp_path}")
    assert done.returncode in (2, 3), done.stderr
    assert "internal" not in done.stderr


def test_a_field_of_200_kb(medrecon: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\n" + "x" * 200_000 + "\n")
    code, _, err = medrecon("cohort", tmp_path / "list.csv", tmp_path / "out")
    assert code == 3, err
    assert "is no table" in err
