"""NIfTI: every type, order and version like nibabel; broken headers and data refused by name."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.io import ScanError, find_one, find_scans, read_scan

AFFINE = np.array([[-0.6, 0.1, 0, 4], [0.08, 0.75, 0.2, -7], [0, -0.16, 2.5, 9], [0, 0, 0, 1.0]])
AFFINE[:3, :3] = np.linalg.qr(AFFINE[:3, :3])[0] * [0.6, 0.75, 2.5]


def volume(dtype: str = "i2", shape: tuple[int, ...] = (7, 6, 5)) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo("i8" if dtype == "u8" else dtype)
    if dtype == "u8":
        return rng.integers(0, limits.max, shape, dtype=dtype, endpoint=True)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def save(
    path: Path, data: np.ndarray, *, version: int = 1, order: str = "<", affine: np.ndarray = AFFINE
) -> None:
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(data.dtype)
    image = kind(data, affine, header)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)


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


def patch(path: Path, offset: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(bytes(data))


def field(offset: int, kind: str, *values: float) -> Callable[[Path], None]:
    return lambda path: patch(path, offset, struct.pack(f"<{kind}", *values))


def cut(count: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:count])  # type: ignore[func-returns-value]


def extension(path: Path) -> None:
    data = path.read_bytes()
    body = data[:348] + b"\1\0\0\0" + struct.pack("<2i", 2**31 - 16, 4) + bytes(56) + data[352:]
    path.write_bytes(body)
    patch(path, 108, struct.pack("<f", 416))


def flip(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 1, 1))
    patch(path, 280, struct.pack("<4f", 0.6, 0, 0, 4))


def no_forms(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 0, 0))
    patch(path, 76, struct.pack("<4f", 1, 0, 0, 0))


def singular(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 0, 1))
    patch(path, 280, struct.pack("<12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0))


def five(path: Path) -> None:
    save(path, volume("f4", (3, 3, 3, 1, 3)))


HEADER = {
    "empty": (cut(0), r"is empty \(0 bytes\)"),
    "stub": (cut(100), "a header has 348"),
    "cut": (cut(500), "cut short: 772 bytes are needed, 500 are there"),
    "other size": (field(0, "i", 347), "no NIfTI header"),
    "magic": (lambda path: patch(path, 344, b"xyz\0"), "bad magic"),
    "no dimension": (field(40, "h", 0), "impossible dimensions"),
    "nine dimensions": (field(40, "h", 9), "impossible dimensions"),
    "zero": (field(44, "h", 0), "impossible dimensions"),
    "negative": (field(44, "h", -5), "impossible dimensions"),
    "huge": (field(42, "3h", 32767, 32767, 32767), "the limit is 8192 MiB"),
    "overflow": (field(40, "8h", 7, *[32767] * 7), "the limit is 8192 MiB"),
    "unknown type": (field(70, "h", 77), "unknown data type code 77"),
    "rgb": (field(70, "2h", 128, 24), "RGB24"),
    "rgba": (field(70, "2h", 2304, 32), "RGBA32"),
    "complex": (field(70, "2h", 32, 64), "complex64"),
    "bitpix": (field(72, "h", 8), "bitpix 8 contradicts the data type int16"),
    "offset": (field(108, "f", 1e9), "cut short"),
    "nan offset": (field(108, "f", np.nan), "data offset is nan"),
    "early offset": (field(108, "f", 4), "data offset is 4"),
    "slope": (field(112, "f", np.inf), "scaling is inf"),
    "extension": (extension, "extension claims"),
    "nan form": (field(280, "f", np.nan), "sform holds NaN"),
    "singular": (singular, "sform is singular"),
    "two forms": (flip, r"qform and sform disagree by up to \d.* --nifti-form"),
    "no form": (no_forms, "no sform, no qform"),
    "five dimensions": (five, "5 dimensions"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", HEADER)
def test_broken_headers(fault: str, packed: bool, tmp_path: Path) -> None:
    change, message = HEADER[fault]
    path = tmp_path / "a.nii"
    save(path, volume())
    change(path)
    if packed:
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.nii.gz"
        message = {"empty": "0 bytes, a header", "cut": "cut short", "offset": "bomb"}.get(fault, message)
    with pytest.raises(ScanError, match=message) as caught:
        read_scan(find_one(path))
    assert path.name in str(caught.value)
    assert caught.value.remedy


def test_form_of_choice(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    save(path, volume())
    flip(path)
    assert find_one(path, nifti_form="sform").affine[0, 0] == pytest.approx(0.6)
    assert find_one(path, nifti_form="qform").affine[0, 0] == pytest.approx(AFFINE[0, 0])


DAMAGE = {
    "no trailer": lambda data: data[:-8],
    "half": lambda data: data[: len(data) // 2],
    "check sum": lambda data: data[:-8] + b"\1\2\3\4" + data[-4:],
    "length": lambda data: data[:-4] + b"\1\2\3\4",
    "rest": lambda data: data + b"x" * 50,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_gzip(damage: str, tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", volume())
    (tmp_path / "a.nii.gz").write_bytes(DAMAGE[damage]((tmp_path / "a.nii.gz").read_bytes()))
    with pytest.raises(ScanError, match=r"a\.nii\.gz: broken or cut short"):
        read_scan(find_one(tmp_path / "a.nii.gz"))


def test_gzip_bombs(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", volume())
    head = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "tail.nii.gz").write_bytes(gzip.compress(head + bytes(64 << 20), 1))
    with pytest.raises(ScanError, match="far more data than its header says"):
        read_scan(find_one(tmp_path / "tail.nii.gz"))
    patch(tmp_path / "a.nii", 42, struct.pack("<3h", 512, 512, 300))
    (tmp_path / "honest.nii.gz").write_bytes(
        gzip.compress((tmp_path / "a.nii").read_bytes() + bytes(150 << 20), 9)
    )
    with pytest.raises(ScanError, match="a decompression bomb or broken"):
        find_one(tmp_path / "honest.nii.gz")


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
    "no form": (lambda path: patch(path, 252, struct.pack("<2h", 0, 0)), "left/right are unknown"),
    "pixdim": (
        lambda path: (patch(path, 76, struct.pack("<4f", 1, 9, 9, 9)), patch(path, 252, b"\0\0")),
        "pixdim says",
    ),
    "spaces": (lambda path: (flip(path), patch(path, 254, struct.pack("<h", 4))), "different spaces"),
    "metres": (field(123, "B", 1), "converted"),
}


@pytest.mark.parametrize("oddity", NOTED)
def test_reads_and_says(oddity: str, tmp_path: Path) -> None:
    change, note = NOTED[oddity]
    save(tmp_path / "a.nii", volume())
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
