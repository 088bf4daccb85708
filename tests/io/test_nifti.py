"""NIfTI: every type, order and version like nibabel; values and forms that must be refused or said."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.io import ScanError, find_one, find_scans, read_scan

from .nifti_edits import AFFINE, field, flip, patch, save, volume


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type(dtype: str, order: str, version: int, tmp_path: Path) -> None:
    data = volume(dtype)
    path = tmp_path / ("a.nii.gz" if dtype in ("i2", "f4") else "a.nii")
    save(path, data, version=version, order=order)
    scan = find_one(path)
    values = read_scan(scan)
    assert np.array_equal(values, data)
    assert values.dtype.itemsize <= (8 if dtype == "u4" else max(2, data.dtype.itemsize))
    assert values.dtype.isnative
    assert np.allclose(scan.affine, nib.load(path).affine, atol=1e-6)
    assert (scan.format, scan.units, scan.modality, scan.description) == ("nifti", "", "", "a")
    assert scan.notes == ()


@pytest.mark.parametrize(
    ("slope", "inter", "kind"),
    [(2, -1024, np.int32), (1, -7, np.int32), (0.5, 0, np.float32), (-1, 0, np.int16)],
)
def test_scaling(slope: float, inter: float, kind: type, tmp_path: Path) -> None:
    data = volume()
    save(tmp_path / "a.nii", data)
    patch(tmp_path / "a.nii", 112, struct.pack("<2f", slope, inter))
    values = read_scan(find_one(tmp_path / "a.nii"))
    assert np.array_equal(values, data.astype(float) * slope + inter)
    assert values.dtype == kind


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_no_scaling(slope: float, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 112, struct.pack("<2f", slope, 50))
    assert np.array_equal(read_scan(find_one(tmp_path / "a.nii")), volume())


def test_gzip_of_several_members(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(
        b"".join(gzip.compress(raw[k : k + 300]) for k in range(0, len(raw), 300))
    )
    assert np.array_equal(read_scan(find_one(tmp_path / "b.nii.gz")), volume())


def test_a_pair(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(volume(), AFFINE), tmp_path / "a.hdr")
    found = find_scans(tmp_path)
    assert np.array_equal(read_scan(found.scans[0]), volume())
    assert [(i.path.name, i.reason) for i in found.left_out] == [("a.img", "read with its header a.hdr")]
    (tmp_path / "a.img").unlink()
    with pytest.raises(ScanError, match=r"a\.hdr: its image file a\.img.* is missing"):
        find_one(tmp_path / "a.hdr")


def test_volumes(tmp_path: Path) -> None:
    data = volume("i2", (7, 6, 5, 3))
    for name in ("a.nii", "a.nii.gz"):
        save(tmp_path / name, data)
        with pytest.raises(ScanError, match=r"holds 3 volume\(s\) of 7 x 6 x 5; .*--volume 0 \.\.\. 2"):
            find_one(tmp_path / name)
        scans = [find_one(tmp_path / name, volume=v) for v in range(3)]
        assert len({s.key for s in scans}) == 3
        for v, scan in enumerate(scans):
            assert scan.volume == v
            assert np.array_equal(read_scan(scan), data[..., v])
        with pytest.raises(ScanError, match="holds 3"):
            find_one(tmp_path / name, volume=3)


@pytest.mark.parametrize("shape", [(7,), (7, 6), (7, 6, 5, 1), (7, 6, 5, 1, 1), (1, 1, 1)])
def test_dimensions_of_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume("f4", shape))
    scan = find_one(tmp_path / "a.nii")
    assert scan.shape == (*shape, 1, 1)[:3]
    assert np.array_equal(read_scan(scan).ravel(), volume("f4", shape).ravel())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(bad: float, tmp_path: Path) -> None:
    data = volume("f4")
    data[1, 2, 3] = data[3, 2, 1] = bad
    save(tmp_path / "a.nii", data)
    with pytest.raises(ScanError, match=r"2 voxels are NaN or Inf; .*--replace-nonfinite"):
        read_scan(find_one(tmp_path / "a.nii"))
    values = read_scan(find_one(tmp_path / "a.nii", replace_nonfinite=-5))
    assert values[1, 2, 3] == values[3, 2, 1] == -5
    assert np.array_equal(
        np.delete(values.ravel(), [np.ravel_multi_index(i, (7, 6, 5)) for i in ((1, 2, 3), (3, 2, 1))]),
        np.delete(data.ravel(), [np.ravel_multi_index(i, (7, 6, 5)) for i in ((1, 2, 3), (3, 2, 1))]),
    )


def test_values_beyond_integers(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", np.full((3, 3, 3), 2**63, "u8"))
    with pytest.raises(ScanError, match="beyond 2\\^63"):
        read_scan(find_one(tmp_path / "a.nii"))


def test_values_beyond_floats(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume("f8") * 1e300)
    with pytest.raises(ScanError, match="beyond 1e30"):
        read_scan(find_one(tmp_path / "a.nii"))


NOTED = {
    "no pixdim": (field(80, "3f", 0, 0, 0), "pixdim says 0 x 0 x 0 mm, the sform"),
    "pixdim of ones": (field(80, "3f", 1, 1, 1), "the sform decides"),
    "unit": (field(123, "B", 6), "unknown code 6"),
    "intercept alone": (field(112, "2f", 0, 7), "scl_inter 7 is not used"),
    "tail": (lambda path: path.write_bytes(path.read_bytes() + bytes(3)), "3 bytes follow the voxels"),
    "no form": (lambda path: patch(path, 252, struct.pack("<2h", 0, 0)), "left/right are unknown"),
    "spaces": (lambda path: (flip(path), patch(path, 254, struct.pack("<h", 4))), "different spaces"),
    "metres": (field(123, "B", 1), "converted"),
}


@pytest.mark.parametrize("oddity", NOTED)
def test_reads_and_says(oddity: str, tmp_path: Path) -> None:
    change, note = NOTED[oddity]
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 252, b"\0\0")
    change(tmp_path / "a.nii")
    assert note in "\n".join(find_one(tmp_path / "a.nii").notes)


def test_units_are_converted(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    mm = find_one(tmp_path / "a.nii").affine
    field(123, "B", 3)(tmp_path / "a.nii")
    assert np.allclose(find_one(tmp_path / "a.nii").affine[:3], mm[:3] / 1000)


def test_wrong_names(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    (tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
    assert np.array_equal(read_scan(find_one(tmp_path / "b.nii.gz")), volume())
    (tmp_path / "c.nii").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 400)
    with pytest.raises(ScanError, match="it is a DICOM file"):
        find_one(tmp_path / "c.nii")


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_a_file_that_changes_is_refused(change: str, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    scan = find_one(tmp_path / "a.nii")
    if change == "gone":
        (tmp_path / "a.nii").unlink()
    else:
        save(tmp_path / "a.nii", volume("u1", (7, 6, 5)))
    with pytest.raises(ScanError, match=r"a\.nii: (changed while it was read|cannot be opened)"):
        read_scan(scan)


def test_limit_of_size(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    with pytest.raises(ScanError, match=r"the limit is 0 MiB.*max_bytes"):
        find_one(tmp_path / "a.nii", max_bytes=100)


@pytest.mark.parametrize("seed", [0, 14, 103, 188, 215, 263])
def test_half_a_turn_about_an_oblique_axis(tmp_path: Path, seed: int) -> None:
    """float32 rounds what is left for the quaternion's first number; its root must not tilt the scan."""
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    affine = np.eye(4)
    affine[:3, :3] = (2 * np.outer(axis, axis) - np.eye(3)) * (0.8, 0.8, 7.0)
    affine[:3, 3] = (-100, 90, -50)
    image = nib.Nifti1Image(np.zeros((256, 256, 19), np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "turned.nii")
    np.testing.assert_allclose(find_one(tmp_path / "turned.nii").affine, affine, atol=1e-3)
