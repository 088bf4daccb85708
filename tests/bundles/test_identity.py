"""What the configurations and trainings of the bundles write holds no marker of the scans: see markers.py."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medrecon.cli.app import main

from ..markers import MARKS, NAME, OTHER, found_below, found_in, uids
from .names import MakeBundle, Workflow

NAMES = ["slice_autoencoder", pytest.param("volume_transform_code", marks=pytest.mark.slow)]
SHORT = {"batch_size": 1, "patch_size": [16, 16], "iterations_per_epoch": 2}


@pytest.fixture
def marks(sources: Path) -> tuple[str, ...]:
    return (*MARKS, *uids(sources))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("config", ["inference.yaml", "evaluate.yaml"])
def test_the_commands_of_the_configurations(
    name: str,
    config: str,
    sources: Path,
    marks: tuple[str, ...],
    tmp_path: Path,
    small_bundle: MakeBundle,
    workflow: Workflow,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    options = {"dataset_dir": str(sources), "output_dir": str(output), "layers": ["level2"], "device": "cpu"}
    capfd.readouterr()
    workflow(small_bundle(name), config, kind="inference", **options).run()
    out, err = capfd.readouterr()
    assert found_in((out + err).encode(), config, marks) == []
    assert list(output.iterdir())
    for path in output.rglob("*"):
        assert found_in(path.name.encode(), "name", marks) == []
        if path.is_file() and path.suffix != ".dcm":  # a derived series has its source's patient
            assert found_in(path.read_bytes(), path.name, marks) == []


def words_of(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_a_sweep(
    sources: Path,
    marks: tuple[str, ...],
    tmp_path: Path,
    small_bundle: MakeBundle,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    bundle = small_bundle("slice_autoencoder")
    words = [sources, output, "--bundle", bundle, "--layer", "level3", "--depths", "1", "--steps", 2,
             "--held-out", f"{OTHER}*", "--held-out", f"{NAME}-*a", "--slices", 1, "--device", "cpu",
             *words_of(SHORT)]  # fmt: skip
    for how, code in (([], 0), (["--json"], 0), (["--held-out", "nobody*"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", *map(str, words), *how])
        out, err = capfd.readouterr()
        assert (ended.value.code or 0) == code, err
        assert found_in((out + err).encode(), "sweep", marks) == []
    assert found_below(output, marks) == []


@pytest.mark.slow
def test_a_training(
    sources: Path,
    marks: tuple[str, ...],
    tmp_path: Path,
    small_bundle: MakeBundle,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    bundle = small_bundle("slice_autoencoder")
    few = {**SHORT, "max_epochs": 2, "val_interval": 2, "checkpoint_interval": 1, "phantom_count": 50,
           "validate#phantoms#length": 2, "validation_scans": [f"{NAME}-*"]}  # fmt: skip
    words = [sources, run, "--bundle", bundle, "--device", "cpu", "--held-out", f"{OTHER}*", *words_of(few)]
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, words)])
    out, err = capfd.readouterr()
    assert not ended.value.code, err
    assert found_in((out + err).encode(), "train", marks) == []
    assert stat.S_IMODE((run / "train.log").stat().st_mode) == 0o600
    (run / "train.log").unlink()  # it may name files, and is its owner's alone
    assert found_below(run, marks) == []


@pytest.mark.slow
@pytest.mark.parametrize("config", ["inference.yaml", "evaluate.yaml", "train.yaml"])
def test_monais_own_command(
    config: str,
    sources: Path,
    marks: tuple[str, ...],
    tmp_path: Path,
    small_bundle: MakeBundle,
    one_thread: dict[str, str],
) -> None:
    """`python -m monai.bundle run` in a process of its own, as a user starts it, logging included."""
    bundle, output = small_bundle("slice_autoencoder"), tmp_path / "out"
    settings: dict[str, Any] = {"dataset_dir": sources, "output_dir": output, "device": "cpu"}
    if config == "train.yaml":
        settings |= {**SHORT, "max_epochs": 2, "val_interval": 2, "checkpoint_interval": 1,
                     "phantom_count": 50, "validate#phantoms#length": 2}  # fmt: skip
    else:
        settings["layers"] = "['level2']"
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle),
               "--config_file", str(bundle / "configs" / config)]  # fmt: skip
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    done = subprocess.run([*command, *words], env=one_thread, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert found_in(done.stdout + done.stderr, config, marks) == []
    assert (
        (output / "configs" / "metadata.json").is_file() if config == "train.yaml" else list(output.iterdir())
    )
    for path in output.rglob("*.log"):  # may name files, and is its owner's alone
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.unlink()
    for path in output.rglob("*.dcm"):  # a derived series has its source's patient
        path.unlink()
    assert found_below(output, marks) == []
