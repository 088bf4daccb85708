"""The verb `train` before anything is trained: what it plans, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Run

Make = Callable[..., np.ndarray]


@pytest.fixture
def run(medrecon: Run, repo: Path, tmp_path: Path, make_nifti: Make) -> Run:
    """Runs `medrecon train in RUN --bundle slice_autoencoder ...`: exit code, stdout, stderr."""
    for number in range(3):
        make_nifti(tmp_path / "in" / f"{number}.nii.gz", seed=number)

    bundle = repo / "bundles" / "slice_autoencoder"
    words = ("train", tmp_path / "in", tmp_path / "run", "-b", bundle, "-d", "cpu")
    return lambda *more: medrecon(*words, *more)


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    asked = ("--dry-run", "--held-out", "2.nii.gz", "--set", "max_epochs=7", "--overlay", "adversarial")
    code, out, err = run(*asked, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert (data["scans"], data["held_out"], data["epochs"]) == (2, ["2.nii.gz"], 7)
    assert [Path(file).name for file in data["configurations"]][:2] == ["train.yaml", "adversarial.yaml"]
    code, out, _ = run(*asked)
    assert code == 0
    assert "nothing was written" in out
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--set", "max_epoch=7"], 2, "max_epochs"),
        (["--overlay", "adversaria"], 4, "did you mean 'adversarial'"),
        (["--cluster", "kubernetse"], 2, "kubernetes"),
        (["--held-out", "*.nii.gz", "--set", "phantom_share=0.0"], 4, "scan"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(run: Run, arguments: list[str], code: int, said: str) -> None:
    found, _, err = run("--dry-run", *arguments)
    assert found == code
    assert said in err
