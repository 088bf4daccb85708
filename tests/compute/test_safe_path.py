"""No code from the current folder, by any way in and for any child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.compute.safe_path import RUN_MODULE, module_command, safe_environment
from medrecon.training.launch.job import Training
from medrecon.training.launch.local import LocalRunner

ROOT = Path(__file__).resolve().parents[2]
NAMES = """
    monai torch numpy typer rich click pydicom nibabel SimpleITK scipy parsl ignite matplotlib jinja2 yaml zmq
    safetensors imagecodecs psutil isal fire highdicom pandas tensorboard itk cv2 cupy
"""
PLANTED = NAMES.split()
PRINT_PATH = "import json, os, sys; print(json.dumps([os.getcwd(), sys.path]))"


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder of data with code in it that leaves a mark when it runs."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in PLANTED:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + chr(10))\nraise SystemExit(99)\n"
        (folder / f"{name}.py").write_text(text)
    (folder / "matplotlibrc").write_text("text.usetex: True\n")
    return folder


@pytest.fixture
def namesake(planted: Path) -> Path:
    """The same, and a package with the name of ours."""
    package = planted / "medrecon"
    (package / "cli").mkdir(parents=True)
    for name in ("__init__", "__main__", "cli/__init__", "errors"):
        (package / f"{name}.py").write_text((planted / "torch.py").read_text().replace("torch", "medrecon"))
    return planted


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The command as pip installs it."""
    script = tmp_path / "bin" / "medrecon"
    script.parent.mkdir()
    script.write_text("import sys\nfrom medrecon.__main__ import main\nsys.exit(main())\n")
    return script


def call(folder: Path, *words: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run it in the folder, as a user does who has installed the package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "path",
    [
        f":{ROOT}",
        *(pytest.param(p, marks=pytest.mark.slow) for p in (f"{ROOT}", f"{ROOT}:", f"{ROOT}::/nowhere")),
    ],
    ids=["first", "none", "last", "between"],
)
def test_the_command_takes_no_code_from_the_current_folder(planted: Path, tmp_path: Path, path: str) -> None:
    done = call(planted, sys.executable, "-m", "medrecon", "scans", ".", PYTHONPATH=path)
    assert (done.returncode, (tmp_path / "ran").exists()) == (3, False), done.stderr


def test_a_package_of_our_own_name(namesake: Path, command: Path, tmp_path: Path) -> None:
    """`python -m medrecon` alone takes it: Python finds it before anything of ours runs (SECURITY.md)."""
    ways: list[list[object]] = [[command], [RUN_MODULE, "medrecon"]]
    if sys.version_info >= (3, 11):
        ways.append(["-P", "-m", "medrecon"])
    for way in ways:
        done = call(namesake, sys.executable, *way, "scans", ".")
        assert (done.returncode, (tmp_path / "ran").exists()) == (3, False), (way, done.stderr)


def test_a_path_that_the_user_names_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('mine')")
    code = "from medrecon.compute.safe_path import forget_current_folder as f; f(); import mine"
    for path in (f"{ROOT}:{tmp_path}", f"{ROOT}:.", f"{ROOT}::{tmp_path}"):
        assert call(tmp_path, sys.executable, "-c", code, PYTHONPATH=path).stdout == "mine\n", path
    assert call(tmp_path, sys.executable, "-c", code).returncode == 1


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    code = "import os; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); "
    code += "from medrecon.compute.safe_path import forget_current_folder as f; f()"
    assert call(tmp_path, sys.executable, "-c", code).returncode == 0


def _training(run: Path, processes: int) -> Training:
    run.mkdir(exist_ok=True)
    return Training(run, (run / "no.yaml",), processes, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_trainings(namesake: Path, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training = _training(tmp_path / "run", processes)
    monkeypatch.chdir(namesake)
    monkeypatch.setenv("PYTHONPATH", f":{ROOT}:")
    LocalRunner().run(training, lambda: None)
    assert not (tmp_path / "ran").exists()
    assert "no.yaml" in training.log.read_text()  # it came as far as the configuration


@pytest.mark.slow
def test_a_child_is_safe_by_itself(planted: Path, tmp_path: Path) -> None:
    """Also where Python, before 3.11, does not know PYTHONSAFEPATH."""
    done = call(planted, *module_command("medrecon.training.launch.process"), "--help")
    assert not (tmp_path / "ran").exists(), done.stderr
    assert "monai" in done.stdout + done.stderr, "it came as far as MONAI's command"


def test_a_childs_children_are_as_safe(planted: Path) -> None:
    """multiprocessing starts Python with `-c`, which puts the current folder first."""
    words = [
        *module_command("timeit"),
        "-n1",
        "-r1",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{PRINT_PATH}'])",
    ]
    done = subprocess.run(
        words, cwd=planted, env=safe_environment({**os.environ, "PYTHONPATH": f":{ROOT}"}),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    here, path = json.loads(done.stdout.splitlines()[0])
    assert here not in path or sys.version_info < (3, 11)
    assert "" not in path or sys.version_info < (3, 11)
    assert str(RUN_MODULE.parent) not in path


def test_what_slicer_starts(namesake: Path, tmp_path: Path) -> None:
    from medrecon.cli.slicer_module import NAME, install_module

    install_module(tmp_path / "modules")
    done = call(namesake, sys.executable, tmp_path / "modules" / f"{NAME}.py", "--xml", APPLAUNCHER_0_X="1")
    assert done.stdout.startswith("<?xml"), done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_drawing_obeys_no_settings_of_the_current_folder(planted: Path) -> None:
    for name in PLANTED:
        (planted / f"{name}.py").unlink()
    code = "import medrecon.report, matplotlib; print(matplotlib.rcParams['text.usetex'])"
    assert call(planted, sys.executable, "-c", code).stdout == "False\n"


VERBS: dict[str, Callable[[Path], list[object]]] = {
    "reconstruct": lambda out: ["scan.nii.gz", out / "a.nii.gz", "--layers", "level3"],
    "layers": lambda out: [],
    "compare": lambda out: ["scan.nii.gz", "scan.nii.gz"],
    "encode": lambda out: ["scan.nii.gz", out / "a.safetensors", "--layers", "level3"],
    "atlas": lambda out: ["scan.nii.gz", out / "atlas", "--layers", "level3"],
    "invert": lambda out: ["scan.nii.gz", out / "i.nii.gz", "--encoder", "resnet18", "--layers", "layer1"],
    "cohort": lambda out: [".", out / "cohort", "--layers", "level3", "--workers", "1"],
    "train": lambda out: [".", out / "run", "--device", "cpu", "--set", 'training_results={"level9": 1}'],
    "sweep": lambda out: [".", out / "sweep", "--layer", "level3", "--device", "cpu", "--steps", "1"],
    "decode": lambda out: ["none.safetensors", out / "d.nii.gz"],
    "demo": lambda out: [out / "demo"],
    "slicer": lambda out: ["scan.nii.gz", out / "s.nii.gz"],
}


def run_verb(folder: Path, tmp_path: Path, verb: str, *way: object) -> None:
    import nibabel as nib
    import numpy as np

    image = nib.Nifti1Image(np.arange(32**3, dtype=np.int16).reshape(32, 32, 32), np.eye(4))
    nib.save(image, folder / "scan.nii.gz")
    done = call(folder, sys.executable, *way, verb, *VERBS[verb](tmp_path))
    ran = tmp_path / "ran"
    assert not ran.exists(), ran.read_text()
    assert done.returncode in (0, 2, 3, 4, 8), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb(planted: Path, tmp_path: Path, verb: str) -> None:
    run_verb(planted, tmp_path, verb, "-m", "medrecon")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["cohort", "train"])
def test_children_beside_a_package_of_our_own_name(
    namesake: Path, command: Path, tmp_path: Path, verb: str
) -> None:
    run_verb(namesake, tmp_path, verb, command)
