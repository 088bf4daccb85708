"""The verb `compare`: errors in the source's units, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Run

Make = Callable[..., np.ndarray]


def test_compare_a_scan_with_itself(medrecon: Run, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "a", (32, 28, 12))
    code, out, err = medrecon("compare", tmp_path / "a", tmp_path / "a", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["identical"] is True
    assert (data["mae"], data["psnr"], data["units"]) == (0, None, "HU")
    code, out, _ = medrecon("compare", tmp_path / "a", tmp_path / "a")
    assert code == 0
    assert "geometry: equal" in out


def test_compare_measures_in_hu(medrecon: Run, tmp_path: Path, make_ct: Make) -> None:
    first = make_ct(tmp_path / "a", (32, 28, 12), seed=1).astype(float)
    second = make_ct(tmp_path / "b", (32, 28, 12), seed=2).astype(float)
    code, out, _ = medrecon("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert code == 0
    data = json.loads(out)
    assert data["mae"] == pytest.approx(np.abs(second - first).mean(), rel=1e-6)
    assert data["psnr"] == pytest.approx(10 * np.log10(4095**2 / ((second - first) ** 2).mean()), abs=1e-3)


def test_compare_refuses_another_grid(medrecon: Run, tmp_path: Path, make_ct: Make, make_nifti: Make) -> None:
    make_ct(tmp_path / "a")
    make_nifti(tmp_path / "b.nii.gz", (20, 24, 6))
    code, out, err = medrecon("compare", tmp_path / "a", tmp_path / "b.nii.gz")
    assert (code, out) == (3, "")
    assert "grid" in err
    assert err.count("\n") == 1


def test_compare_takes_values_as_hu(medrecon: Run, tmp_path: Path, make_ct: Make, make_nifti: Make) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    make_nifti(tmp_path / "b.nii.gz", seed=1)
    code, out, _ = medrecon("compare", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "--hu", "--json")
    assert code == 0
    assert json.loads(out)["data_range"] == [-1024, 3071]
    make_ct(tmp_path / "ct")
    assert medrecon("compare", tmp_path / "ct", tmp_path / "ct", "--hu")[0] == 0


def test_compare_remembers_that_reconstruct_was_told_hu(
    medrecon: Run, tmp_path: Path, tiny_bundle: Path, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "ct.nii.gz")
    made = tmp_path / "r.nii.gz"
    asked = ("reconstruct", tmp_path / "ct.nii.gz", made, "-l", "coarse2", "-b", tiny_bundle, "-d", "cpu")
    assert medrecon(*asked, "--hu")[0] == 0
    code, out, err = medrecon("compare", tmp_path / "ct.nii.gz", made, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["units"] == "HU"
    code, out, err = medrecon("compare", tmp_path / "ct.nii.gz", made)
    assert "r.manifest.json" in err
    assert "MAE (HU)" in out
