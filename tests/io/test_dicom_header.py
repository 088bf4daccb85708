"""The header parser against pydicom, and against headers that lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medrecon.io import ScanError, find_one, read_scan
from medrecon.io.dicom.reading.header import WANTED, NotDicom, read_header

Make = Callable[..., np.ndarray]
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def nested(ds: Dataset, index: int) -> None:
    """Sequences of defined and undefined length, an icon with pixels of its own, private ones."""
    icon = Dataset()
    icon.Rows = icon.Columns = 4
    icon.PixelData = b"\1" * 16
    icon["PixelData"].VR = "OW"
    ds.IconImageSequence = [icon]
    inner, outer = Dataset(), Dataset()
    inner.add_new(0x00091002, "UN", b"12345678")
    outer.ReferencedImageSequence = [inner, Dataset()]
    outer["ReferencedImageSequence"].is_undefined_length = True
    ds.ReferencedStudySequence = [outer, Dataset()]
    ds["ReferencedStudySequence"].is_undefined_length = bool(index % 2)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit", "big", "deflated"])
def test_agrees_with_pydicom(syntax: str, tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct", change=nested, syntax=syntax)
    for path in (tmp_path / "ct").iterdir():
        header, ds = read_header(path), pydicom.dcmread(path)
        assert header.syntax == syntax
        assert not header.fault
        for name in WANTED:
            value = ds.get(name)
            if name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation"):
                assert header.integer(name) == value
            elif name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
                assert header.numbers(name) == tuple(value)
            elif name in ("SOPInstanceUID", "SeriesInstanceUID", "Modality", "PatientID"):
                assert header.text(name) == str(value)
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def test_no_cut_file_is_read_as_a_whole_one(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", change=nested, shape=(6, 5, 2))
    source = tmp_path / "ct" / "000.dcm"
    data = source.read_bytes()
    target = tmp_path / "cut.dcm"
    for length in range(0, len(data) - 1, 7):
        target.write_bytes(data[:length])
        with pytest.raises(ScanError, match=r"cut\.dcm"):
            read_scan(find_one(target))


def test_pixels_of_an_icon_are_not_the_image(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", change=nested)
    header = read_header(next((tmp_path / "ct").iterdir()))
    assert header.pixel_length == 14 * 12 * 2


def broken(body: bytes) -> bytes:
    """A file with file meta information and a body of our own."""
    meta = Dataset()
    meta.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.file_meta = pydicom.dataset.FileMetaDataset()
    meta.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.file_meta.MediaStorageSOPClassUID = meta.SOPClassUID
    meta.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = BytesIO()
    meta.save_as(data, enforce_file_format=True)
    return data.getvalue() + body


def element(group: int, number: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    return struct.pack("<HH2sHI", group, number, vr, 0, length) + value


FAULTS = {
    "a value longer than the file": (
        element(0x0009, 0x1001, b"OB", 1 << 31, b"x"),
        "claims 2147483648 bytes",
    ),
    "unknown representation": (b"\x09\0\x01\x10zz\0\0\0\0\0\0" + b"x" * 40, "unknown value representation"),
    "a sequence without end": (element(0x0040, 0x0275, b"SQ", 0xFFFFFFFF), "the file ends"),
    "an item longer than the file": (
        element(0x0040, 0x0275, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 1 << 30) + b"x" * 20,
        "the file ends",
    ),
    "endless nesting": (
        (element(0x0040, 0x0275, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF))
        * 20000,
        "nested deeper than 64 levels",
    ),
    "rest": (b"\x10\0\x10\0PN", "bytes too many at its end"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_headers_have_a_fault(fault: str, tmp_path: Path) -> None:
    body, message = FAULTS[fault]
    path = tmp_path / "a.dcm"
    path.write_bytes(broken(body))
    assert message in read_header(path).fault
    with pytest.raises(ScanError, match=message):
        find_one(path)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 500, b"\0" * 5000, b"II*\0" * 100, b"\x89PNG" * 50])
def test_other_files_are_no_dicom(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(NotDicom):
        read_header(path)


def test_deflated_bomb_is_refused(tmp_path: Path) -> None:
    ds = pydicom.dcmread(BytesIO(broken(b"")))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = BytesIO()
    ds.save_as(data, enforce_file_format=True)
    data.seek(0)
    head = data.getvalue()[: 144 + pydicom.dcmread(data).file_meta[0x00020000].value]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [squeeze.compress(element(0x7FE1, 0x1010, b"OB", 200 << 20))]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(200)]
    path = tmp_path / "bomb.dcm"
    path.write_bytes(head + b"".join(parts) + squeeze.flush())
    with pytest.raises(ScanError, match="decompression bomb"):
        find_one(path)
