"""Scans that belong together, as channels: by folder and by name; read as one image, the first one first."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from medrecon.errors import UsageError
from medrecon.io import ScanError, ScanReader, find_one, find_scans
from medrecon.io.choices import in_sets, with_beside, with_hu
from medrecon.transforms import ScanIntensity


def save(path: Path, value: int, kind: type = np.int16, spacing: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (value + np.arange(60).reshape(5, 4, 3)).astype(kind)
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, spacing, 1])), path)


def names(found: tuple) -> list[list[str]]:
    return [[f"{s.path.parent.name}/{s.path.name}" for s in (scan, *scan.beside)] for scan in found]


def test_by_folder_and_by_what_the_star_stands_for(tmp_path: Path) -> None:
    for place in (
        "p1/t1.nii",
        "p1/t2.nii",
        "p2/t1.nii",
        "p2/t2.nii",
        "p2/x_a.nii",
        "p2/y_b.nii",
        "p2/y_a.nii",
    ):
        save(tmp_path / place, 3)
    save(tmp_path / "p2" / "x_b.nii", 4)
    scans = find_scans(tmp_path).scans
    assert names(in_sets(scans, {"T2": "t2.nii", "T1": "t1.nii"})) == [
        ["p1/t2.nii", "p1/t1.nii"],
        ["p2/t2.nii", "p2/t1.nii"],
    ]
    assert names(in_sets(scans, {"A": "*_a.nii", "B": "?_b.nii"})) == [
        ["p2/x_a.nii", "p2/x_b.nii"],
        ["p2/y_a.nii", "p2/y_b.nii"],
    ]
    assert in_sets(scans, {}) == scans
    for patterns, said in (
        ({"A": "none*"}, "no scan matches none"),
        ({"A": "*_a.nii", "B": "x_*"}, "is A and B"),
    ):
        with pytest.raises(UsageError, match=said):
            in_sets(scans, patterns)
    (tmp_path / "p1" / "t2.nii").unlink()
    with pytest.raises(ScanError, match="has no 'T2' beside it"):
        in_sets(find_scans(tmp_path).scans, {"T1": "t1.nii", "T2": "t2.nii"})


def test_they_are_read_as_channels_each_in_its_own_scale(tmp_path: Path) -> None:
    save(tmp_path / "ct.nii", -1000)
    save(tmp_path / "mr.nii", 7, np.float32)
    first, other = with_hu(find_one(tmp_path / "ct.nii")), find_one(tmp_path / "mr.nii")
    read = LoadImage(reader=ScanReader(), dtype=None, ensure_channel_first=True, expanduser=False)  # type: ignore[arg-type]
    image = read(with_beside(first, [other]))
    assert image.shape == (2, 5, 4, 3)
    assert (float(image[0].min()), float(image[1].min())) == (-1000, 7)
    intensity = ScanIntensity()
    scaled = intensity(image)
    alone = [ScanIntensity()(read(scan)).as_tensor()[0] for scan in (first, other)]
    assert all(np.allclose(a, b) for a, b in zip(scaled.as_tensor(), alone, strict=True))
    back = intensity.inverse(scaled[:1])
    assert np.allclose(back.as_tensor()[0], image.as_tensor()[0], atol=1e-3), (
        "the way back is the first one's"
    )
    save(tmp_path / "thick.nii", 7, spacing=2.0)
    with pytest.raises(ScanError, match="another grid"):
        with_beside(first, [find_one(tmp_path / "thick.nii")])
