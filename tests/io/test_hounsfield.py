"""CT in files that cannot say so: what looks like HU, what does not, and what an earlier run was told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medrecon.io import find_one, plan_outputs, read_scan, write_manifest
from medrecon.io.choices import with_hu
from medrecon.io.hounsfield import runs_like_hu, told_hu
from medrecon.io.read import load


def ct(*, air: float = -1000, floor: float | None = None, noise: float = 15.0) -> np.ndarray:
    """A body of 40 HU with bone in air, (40, 40, 20)."""
    rng = np.random.default_rng(0)
    values = np.full((40, 40, 20), air)
    values[8:32, 8:32] = 40
    values[18:22, 24:28] = 700
    values = np.rint(values + rng.normal(0, noise, values.shape))
    if floor is not None:
        values[:4] = floor
    return values.astype(np.float32)


@pytest.mark.parametrize(
    "values",
    [ct(), ct(floor=-1024), ct(floor=-2048), ct(floor=-3024), ct(noise=60.0), np.maximum(ct(), -1024)],
)
def test_a_ct_runs_like_hu(values: np.ndarray) -> None:
    assert runs_like_hu(values)
    assert runs_like_hu(np.asfortranarray(values.astype(np.int16)))


@pytest.mark.parametrize(
    "values",
    [
        ct() + 1024,  # stored values without their intercept
        ct() + 0.25,  # no whole numbers
        np.where(ct() < -500, 0, ct() + 100),  # MR: nothing below 0
        ct() / 10,
        np.rint(np.random.default_rng(0).normal(0, 400, (40, 40, 20))),  # a phase image around 0
        np.full((8, 8, 8), -1000.0),
        ct() * 100,
    ],
)
def test_others_do_not(values: np.ndarray) -> None:
    assert not runs_like_hu(values)


def test_the_note_says_what_it_would_change(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(ct(floor=-1024), np.eye(4)), tmp_path / "ct.nii.gz")
    scan = find_one(tmp_path / "ct.nii.gz")
    (note,) = load(scan)[1]
    assert "--hu" in note
    assert "-1024 to 3071 HU" in note
    low, high = np.percentile(read_scan(scan)[scan.shape[0] // 10 :], [0.5, 99.5])
    assert f"{high:g}" in note or f"{low:g}" in note
    assert load(with_hu(scan))[1] == []


def test_real_scans(shared_dir: Path) -> None:
    """Every CT that comes as NIfTI looks like one, no MR does."""
    seen = {"ct": 0, "mr": 0}
    for path in sorted((shared_dir / "data" / "real").iterdir()):
        if path.is_file() and path.name.endswith((".nii.gz", ".nrrd")):
            kind = path.name[:2]
            assert runs_like_hu(read_scan(find_one(path))) == (kind == "ct"), path.name
            seen[kind] += 1
    assert min(seen.values()) >= 2


def test_what_a_run_was_told_is_found_in_its_manifest(
    tmp_path: Path, make_nifti: Callable[..., np.ndarray]
) -> None:
    make_nifti(tmp_path / "in" / "ct.nii.gz")
    make_nifti(tmp_path / "in" / "other.nii.gz", seed=1)
    scan, other = (find_one(tmp_path / "in" / name) for name in ("ct.nii.gz", "other.nii.gz"))
    place = tmp_path / "out"
    place.mkdir()
    plan_outputs([scan], ["level3"], place / "r.nii.gz")
    assert told_hu(scan, [place]) is None
    write_manifest(place / "r.manifest.json", scans=[with_hu(scan), other])
    assert told_hu(scan, [place / "r.nii.gz"]) == place / "r.manifest.json"
    assert told_hu(other, [place]) is None
    assert told_hu(with_hu(scan), [place]) is None, "it says so itself"
    for broken in ("[1]", "{", json.dumps({"inputs": [1]}), json.dumps({"inputs": None})):
        (place / "a.manifest.json").write_text(broken)
        assert told_hu(scan, [place]) == place / "r.manifest.json"
