"""Masks and points as a user names them, on the grid of a scan."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.atlas.marks import Marks
from medrecon.errors import UsageError
from medrecon.io import find_one
from medrecon.io.scan import Scan, ScanError
from medrecon.io.segments import label_names

SHAPE, AFFINE = (20, 18, 12), np.array([[-1.0, 0, 0, 10], [0, 1, 0, -5], [0, 0, 2, 3], [0, 0, 0, 1]])


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    return find_one(save(tmp_path / "scan.nii", np.arange(np.prod(SHAPE)).reshape(SHAPE) % 300))


def labels() -> np.ndarray:
    values = np.zeros(SHAPE, np.int16)
    values[4:9, 5:10, 3:6], values[12:15, 5:10, 3:6] = 1, 2
    return values


def segmentation(path: Path, values: np.ndarray, origin: tuple[float, float, float], layers: bool) -> Path:
    """As 3D Slicer saves one: LPS, names in key:=value lines, layers first, raw."""
    stored = values if layers else values[None]
    sizes = " ".join(map(str, stored.shape if layers else values.shape))
    lps = (-origin[0], -origin[1], origin[2])
    head = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {4 if layers else 3}",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        f"space directions: {'none ' if layers else ''}(1,0,0) (0,-1,0) (0,0,2)",
        f"kinds: {'list ' if layers else ''}domain domain domain",
        "encoding: raw",
        f"space origin: ({lps[0]},{lps[1]},{lps[2]})",
        "Segment0_Name:=left nodule",
        "Segment0_LabelValue:=1",
        "Segment0_Layer:=0",
        "Segment1_Name:=whole lobe",
        f"Segment1_LabelValue:={1 if layers else 2}",
        f"Segment1_Layer:={1 if layers else 0}",
    ]
    data = values.astype(np.uint8).tobytes(order="F")
    path.write_bytes("\n".join(head).encode() + b"\n\n" + data)
    return path


def test_a_mask_has_the_name_that_it_is_given(scan: Scan, tmp_path: Path) -> None:
    one = save(tmp_path / "one.nii", labels() == 1)
    ((marked,), ()) = Marks((f"nodule={one}",)).on(scan)
    assert (marked.name, marked.voxels) == ("nodule", 75)
    masks, _ = Marks((f"lung={save(tmp_path / 'two.nii', labels())}",)).on(scan)
    assert [each.name for each in masks] == ["lung 1", "lung 2"]


@pytest.mark.parametrize(
    "content",
    [
        {"1": "liver", "2": "tumour"},
        {"background": 0, "liver": 1, "tumour": 2},
        {"labels": {"liver": 1, "tumour": 2}},
    ],
)
def test_names_come_from_json(content: object, scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps(content))
    masks, _ = Marks((str(save(tmp_path / "m.nii", labels())),), names=tmp_path / "names.json").on(scan)
    assert [each.name for each in masks] == ["liver", "tumour"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": "b"}', "[" * 100_000])
def test_what_names_nothing_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ScanError, match=r"no JSON|names no label"):
        label_names(tmp_path / "names.json")


def test_a_segmentation_of_slicer_is_put_in_its_place(scan: Scan, tmp_path: Path) -> None:
    """It is cut to what is drawn, and lies on a part of the scan's grid."""
    part = labels()[3:16, 4:11, 2:7]
    origin = (AFFINE @ [3, 4, 2, 1])[:3]
    path = segmentation(tmp_path / "s.seg.nrrd", part, origin, layers=False)
    masks, _ = Marks((str(path),)).on(scan)
    assert [(each.name, each.voxels) for each in masks] == [("left nodule", 75), ("whole lobe", 45)]
    whole = np.zeros(SHAPE, bool)
    whole[masks[0].box] = masks[0].inside
    np.testing.assert_array_equal(whole, labels() == 1)


def test_segments_of_slicer_that_overlap(scan: Scan, tmp_path: Path) -> None:
    two = np.stack([labels() == 1, labels() > 0])
    path = segmentation(tmp_path / "s.seg.nrrd", two, AFFINE[:3, 3], layers=True)
    masks, _ = Marks((str(path),)).on(scan)
    assert [(each.name, each.voxels) for each in masks] == [("left nodule", 75), ("whole lobe", 120)]


def test_another_grid_is_refused(scan: Scan, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 0.4
    with pytest.raises(ScanError, match="its grid is not that of"):
        Marks((str(save(tmp_path / "m.nii", labels(), moved)),)).on(scan)


def test_points(scan: Scan) -> None:
    _, spheres = Marks(points=("nodule=3,4,9", "-2,4,13"), radius=2.5).on(scan)
    assert [each.name for each in spheres] == ["nodule", "point 2"]
    for text, error in (("3,4", "is no point"), ("a,b,c", "is no point"), ("900,0,0", "outside of the scan")):
        with pytest.raises(UsageError, match=error):
            Marks(points=(text,)).on(scan)
    with pytest.raises(UsageError, match="two marks are called 'a'"):
        Marks(points=("a=3,4,9", "a=3,4,9")).on(scan)
