"""NIfTI headers that tools read each in another way: refused, or read with what must be said."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.io import ScanError, find_one, read_scan, write_volume

from .nifti_edits import AFFINE, field, patch, save, volume

CONTRADICTIONS = {
    "pixdim": (field(80, "f", 353), "sform"),
    "a little": (field(84, "f", 0.75 * 1.02), "sform"),
    "negative": (field(80, "f", -0.6), "sform"),
    "infinite": (field(80, "f", np.inf), "sform"),
    "one of three": (field(80, "3f", 1, 0.75, 2.5), "sform"),
}


@pytest.mark.parametrize("oddity", CONTRADICTIONS)
def test_voxel_sizes_that_contradict_the_form(oddity: str, tmp_path: Path) -> None:
    """ITK takes pixdim, nibabel the form: who is right is for the user to say."""
    change, form = CONTRADICTIONS[oddity]
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 252, b"\0\0")
    change(tmp_path / "a.nii")
    with pytest.raises(ScanError, match=f"pixdim says .*--nifti-form {form}"):
        find_one(tmp_path / "a.nii")
    scan = find_one(tmp_path / "a.nii", nifti_form=form)
    assert np.allclose(scan.affine, AFFINE, atol=1e-6)
    assert f"the {form} decides" in "".join(scan.notes)


QFORMS = {
    "no quaternion": field(256, "f", 3),
    "a little too long": field(256, "3f", 1.0001, 0, 0),
    "nan": field(260, "f", np.nan),
    "handedness": field(76, "f", 0.5),
    "nan handedness": field(76, "f", np.nan),
}


@pytest.mark.parametrize("fault", QFORMS)
def test_a_qform_that_is_a_guess(fault: str, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 254, b"\0\0")
    QFORMS[fault](tmp_path / "a.nii")
    with pytest.raises(ScanError, match="the qform holds NaN, Inf or absurd values"):
        find_one(tmp_path / "a.nii")


@pytest.mark.parametrize("place", [252, 254])
@pytest.mark.parametrize("code", [6, 77, 256, 32767])
def test_codes_of_forms_that_are_none(place: int, code: int, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", place, struct.pack("<h", code))
    with pytest.raises(ScanError, match=f"form_code is {code}, which is none"):
        find_one(tmp_path / "a.nii")


def test_an_sform_into_an_atlas_may_scale(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 254, struct.pack("<h", 4))
    patch(tmp_path / "a.nii", 280, struct.pack("<12f", *(AFFINE[:3] * 1.2).ravel()))
    scan = find_one(tmp_path / "a.nii")
    assert np.allclose(scan.affine[:3], AFFINE[:3] * 1.2, atol=1e-5)
    assert "different spaces" in "".join(scan.notes)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "place", [0, 1, 4, 100, 347, 348, 349, 350, 351, -1, -0.5, 352.5, 543, 2.0**40, np.inf]
)
def test_voxels_that_would_start_within_the_header(
    version: int, order: str, place: float, tmp_path: Path
) -> None:
    """nibabel refuses it, ITK takes 348 or the very place: voxels shifted by one or two."""
    save(tmp_path / "a.nii", volume(), version=version, order=order)
    if version == 1:
        patch(tmp_path / "a.nii", 108, struct.pack(f"{order}f", place))
    elif place == int(place) if np.isfinite(place) else False:
        patch(tmp_path / "a.nii", 168, struct.pack(f"{order}q", int(place)))
    else:
        pytest.skip("NIfTI-2 has whole numbers there")
    if version == 1 and place == 543:
        place = 543.5
        patch(tmp_path / "a.nii", 108, struct.pack(f"{order}f", place))
    with pytest.raises(ScanError, match=r"the data offset is|cut short|the limit is"):
        find_one(tmp_path / "a.nii")


def with_extensions(
    path: Path, *sizes: int, room: int | None = None, order: str = "<", version: int = 1
) -> None:
    """Put header extensions of these sizes before the voxels, which start after `room` bytes."""
    save(path, volume(), version=version, order=order)
    raw, head = path.read_bytes(), 348 if version == 1 else 540
    texts = b"".join(struct.pack(f"{order}2i", n, 6).ljust(n, b"x") for n in sizes)
    room = len(texts) if room is None else room
    path.write_bytes(raw[:head] + b"\1\0\0\0" + texts.ljust(room, b"\0") + raw[head + 4 :])
    place = (
        struct.pack(f"{order}f", head + 4 + room)
        if version == 1
        else struct.pack(f"{order}q", head + 4 + room)
    )
    patch(path, 108 if version == 1 else 168, place)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("sizes", [(32,), (16, 48), (16,) * 40])
def test_header_extensions(sizes: tuple[int, ...], order: str, version: int, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    with_extensions(path, *sizes, order=order, version=version)
    assert np.array_equal(read_scan(find_one(path)), volume())
    assert np.array_equal(np.asarray(nib.load(path).dataobj), volume())
    with_extensions(path, *sizes, room=sum(sizes) + 160, order=order, version=version)
    assert np.array_equal(read_scan(find_one(path)), volume())
    end = 348 + 4 + sum(sizes) if version == 1 else 540 + 4 + sum(sizes)
    for place in {end - 1, end - 2, end - 8, end - 16, end - sum(sizes)}:
        with_extensions(path, *sizes, order=order, version=version)
        code = struct.pack(f"{order}f" if version == 1 else f"{order}q", place)
        patch(path, 108 if version == 1 else 168, code)
        if place == end - 16 and sizes[-1] == 16 and len(sizes) > 1:
            continue  # a whole extension less: nobody could tell, but for what follows the voxels
        with pytest.raises(ScanError, match=r"a header extension claims \d+ bytes"):
            find_one(path)


@pytest.mark.parametrize("size", [0, 1, 7, 15, -16, 2**31 - 16])
def test_header_extensions_of_no_size(size: int, tmp_path: Path) -> None:
    with_extensions(tmp_path / "a.nii", 32)
    patch(tmp_path / "a.nii", 352, struct.pack("<i", size))
    with pytest.raises(ScanError, match="a header extension claims"):
        find_one(tmp_path / "a.nii")


VANISHING = [(1e-35, 0), (1e-44, 0), (-1e-40, 0), (1e-30, -1024), (1e-14, 1000)]


@pytest.mark.parametrize(("slope", "inter"), VANISHING)
def test_scaling_that_would_lose_the_values(slope: float, inter: float, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 112, struct.pack("<2f", slope, inter))
    with pytest.raises(ScanError, match="rescale the values"):
        read_scan(find_one(tmp_path / "a.nii"))
    save(tmp_path / "b.nii", volume(), version=2)
    patch(tmp_path / "b.nii", 176, struct.pack("<2d", 1e-300, inter))
    with pytest.raises(ScanError, match="rescale the values"):
        read_scan(find_one(tmp_path / "b.nii"))


def test_a_fine_scaling_keeps_neighbours_apart(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 112, struct.pack("<2f", 1e-7, 1000))
    values = read_scan(find_one(tmp_path / "a.nii"))
    assert len(np.unique(values)) == len(np.unique(volume()))
    assert np.allclose(values, nib.load(tmp_path / "a.nii").get_fdata(), rtol=1e-12)


def test_values_too_small_for_single_precision(tmp_path: Path) -> None:
    for kind in ("f4", "f8"):
        save(tmp_path / "a.nii", (volume("f8") * 1e-40).astype(kind))
        with pytest.raises(ScanError, match="values of no more than 1e-30"):
            read_scan(find_one(tmp_path / "a.nii"))


def test_fields_that_results_keep_are_not_absurd(tmp_path: Path) -> None:
    """A NIfTI-2 header has room for numbers that NIfTI-1 has not: found at reading, not at writing."""
    save(tmp_path / "a.nii", volume(), version=2)
    patch(tmp_path / "a.nii", 224, struct.pack("<2q", 1 << 40, -(1 << 40)))  # slice_start, slice_end
    patch(tmp_path / "a.nii", 192, struct.pack("<2d", np.nan, 400))  # cal_max, cal_min
    scan = find_one(tmp_path / "a.nii")
    write_volume(read_scan(scan), scan, tmp_path / "b.nii")
    header = nib.load(tmp_path / "b.nii").header
    assert (header["slice_start"], header["slice_end"], header["cal_max"], header["cal_min"]) == (
        0,
        0,
        0,
        400,
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slice_code", 7), ("slice_code", 16387), ("slice_code", -1), ("dim_info", 64), ("dim_info", 300),
        ("slice_end", -1), ("slice_start", 40000), ("cal_max", np.inf), ("cal_min", 1e300),
        ("slice_duration", -1.0),
    ],
)  # fmt: skip
def test_a_field_without_meaning_is_said_and_not_kept(
    version: int, name: str, value: float, tmp_path: Path
) -> None:
    save(tmp_path / "a.nii", volume(), version=version)
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    head = kind((tmp_path / "a.nii").read_bytes()[: 348 if version == 1 else 540])
    with contextlib.suppress(OverflowError), np.errstate(over="ignore"):
        head[name] = value
    if head[name] == 0:
        pytest.skip("NIfTI-1 has no room for it")
    patch(tmp_path / "a.nii", 0, head.binaryblock)
    scan = find_one(tmp_path / "a.nii")
    assert [note for note in scan.notes if note.startswith(f"{name} ")]
    write_volume(read_scan(scan), scan, tmp_path / "b.nii")
    assert nib.load(tmp_path / "b.nii").header[name] == 0


def test_a_window_of_a_large_range_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    patch(tmp_path / "a.nii", 124, struct.pack("<2f", 90000, -50000))
    scan = find_one(tmp_path / "a.nii")
    assert not scan.notes
    write_volume(read_scan(scan), scan, tmp_path / "b.nii")
    header = nib.load(tmp_path / "b.nii").header
    assert (header["cal_max"], header["cal_min"]) == (90000, -50000)
