"""Broken NIfTI headers and damaged gzip streams are refused by name."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.io import ScanError, find_one, read_scan
from medrecon.io.files import inflate

from .nifti_edits import AFFINE, field, flip, patch, save, volume


def cut(count: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:count])  # type: ignore[func-returns-value]


def extension(path: Path) -> None:
    data = path.read_bytes()
    body = data[:348] + b"\1\0\0\0" + struct.pack("<2i", 2**31 - 16, 4) + bytes(56) + data[352:]
    path.write_bytes(body)
    patch(path, 108, struct.pack("<f", 416))


def no_forms(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 0, 0))
    patch(path, 76, struct.pack("<4f", 1, 0, 0, 0))


def singular(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 0, 1))
    patch(path, 280, struct.pack("<12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0))


def sheared(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 0, 1))
    patch(path, 280, struct.pack("<12f", 0.6, 0, 0, 4, 0, 0.75, 0.8, -7, 0, 0, 2.5, 9))


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
    "sheared": (sheared, r"sform is sheared: its corners are 0\.90 mm off a straight grid"),
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


def test_what_scaled_values_take_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte of the file becomes four in memory."""
    monkeypatch.setattr(inflate, "FREE_BYTES", 1 << 16)
    data = np.zeros((64, 64, 64), np.uint8)
    data.ravel()[:4096] = np.random.default_rng(0).integers(0, 255, 4096)
    save(tmp_path / "a.nii", data)
    for slope, accepted in ((1.0, True), (0.5, False)):
        patch(tmp_path / "a.nii", 112, struct.pack("<2f", slope, 0))
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
        if accepted:
            assert read_scan(find_one(tmp_path / "b.nii.gz")).shape == (64, 64, 64)
        else:
            with pytest.raises(ScanError, match="bomb"):
                find_one(tmp_path / "b.nii.gz")


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
