"""The header parser against pydicom, and against headers that lie."""

from __future__ import annotations

import os
import struct
import time
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

from medrecon.io import ScanError, find_one, find_scans, read_scan
from medrecon.io.dicom.reading.header import WANTED
from medrecon.io.dicom.reading.parsing import NotDicom, read_header

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
    "zeros in a sequence": (
        element(0x0040, 0x0275, b"SQ", 0xFFFFFFFF)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + bytes(400),
        "no element at byte",
    ),
    "another tag for an item": (
        element(0x0040, 0x0275, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE001, 0) + bytes(40),
        "no item at byte",
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


def implicit(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def undefined(group: int, number: int, vr: bytes, content: bytes, *, end: bool = True) -> bytes:
    """A value of undefined length with one item of undefined length."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content
    item += struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) * end
    return element(group, number, vr, 0xFFFFFFFF) + item


SHORT_VR = struct.pack("<HH2sH", 0x0008, 0x0100, b"SH", 4) + b"CODE"
ODD_BUT_VALID = {
    "an implicit element": implicit(0x0009, 0x1001, b"abcd"),
    "an implicit element that is kept": implicit(0x0010, 0x0020, b"ID"),
    "a sequence with implicit items": undefined(0x0009, 0x1001, b"SQ", implicit(8, 0x0100, b"CODE")),
    "an unknown value with explicit items": undefined(0x0009, 0x1001, b"UN", SHORT_VR),
    "an unknown value with implicit items": undefined(0x0009, 0x1001, b"UN", implicit(8, 0x0100, b"CODE")),
    "explicit in implicit in explicit items": undefined(
        0x0009,
        0x1001,
        b"SQ",
        SHORT_VR
        + undefined(9, 0x1002, b"UN", implicit(8, 0x0100, b"CODE") + implicit(9, 0x1003, b""))
        + SHORT_VR,
    ),
}


def insert(path: Path, tag: bytes, content: bytes) -> None:
    """Put bytes before the first element with this tag (as it is in the file)."""
    data = path.read_bytes()
    at = data.index(tag, 200)
    path.write_bytes(data[:at] + content + data[at:])


@pytest.mark.parametrize("kind", ODD_BUT_VALID)
def test_mixed_encodings_are_read_as_by_pydicom(kind: str, tmp_path: Path, make_series: Make) -> None:
    def forget(ds: Dataset, index: int) -> None:
        del ds[0x00090010], ds[0x00091001], ds.PatientID

    true = make_series(tmp_path / "ct", change=forget)
    for path in (tmp_path / "ct").iterdir():
        insert(path, b"\x10\0\x10\0PN", ODD_BUT_VALID[kind])
        header, ds = read_header(path), pydicom.dcmread(path)
        assert not header.fault
        assert header.text("PatientID") == ds.get("PatientID", "")
        assert header.text("PatientName") == "Doe^Jane" == ds.PatientName
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def test_a_first_element_without_vr_does_not_make_the_file_implicit(
    tmp_path: Path, make_series: Make
) -> None:
    true = make_series(tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():
        insert(path, b"\x08\0\x05\0CS", implicit(0x0008, 0x0001, b"\0\0\0\0"))
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data[132:]
        return data[:132] + data[132:].replace(old, new, 1)

    return change


CT_CLASS = b"1.2.840.10008.5.1.4.1.1.2\0"
DAMAGED = {
    "prefix": (lambda data: data[:128] + b"DICK" + data[132:], "b'DICK' stands where 'DICM' must"),
    "SOP class": (
        replaced(b"\x08\0\x16\0UI\x1a\0" + CT_CLASS, b"\x08\0\x16\0UI\x1a\0" + CT_CLASS[:-2] + b"3\0"),
        "the file meta information has '1.2.840.10008.5.1.4.1.1.2'",
    ),
    "both SOP classes": (
        lambda data: data.replace(CT_CLASS, b"1.2.840.10008.5.1.4.1.1.r\0"),
        "SOP Class UID is '1.2.840.10008.5.1.4.1.1.r'",
    ),
    "binary position": (
        replaced(b"\x20\0\x32\0DS", b"\x20\0\x32\0FD"),
        "ImagePositionPatient has the value representation FD",
    ),
    "matrix as text": (
        replaced(b"\x28\0\x10\0US", b"\x28\0\x10\0IS"),
        "Rows has the value representation IS",
    ),
    "a value twice": (
        replaced(b"\x20\0\x37\0DS", b"\x20\0\x32\0DS"),
        "ImagePositionPatient stands twice",
    ),
    "long identifier": (
        replaced(b"\x10\0\x20\0LO", b"\x10\0\x20\0LO\xd0\x07" + b"7" * 2000 + b"\x10\0\x21\0LO"),
        "PatientID is longer than 1024 bytes",
    ),
    "cut between two elements": (
        lambda data: data[: data.index(b"\x08\0\x60\0CS")],
        "it ends without pixel data",
    ),
    "cut before the SOP class": (
        lambda data: data[: data.index(b"\x08\0\x16\0UI")],
        "it ends without pixel data",
    ),
    "cut behind the file meta information": (
        lambda data: data[: data.index(b"\x08\0\x05\0CS")],
        "it ends with its file meta information",
    ),
    "cut and filled up with zeros": (
        lambda data: data[: data.index(b"\x20\0\x0e\0UI")].ljust(len(data), b"\0"),
        "it ends without pixel data",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_slice_is_no_other_object(damage: str, tmp_path: Path, make_series: Make) -> None:
    change, message = DAMAGED[damage]
    make_series(tmp_path / "ct")
    last = tmp_path / "ct" / "047.dcm"
    last.write_bytes(change(last.read_bytes()))
    with pytest.raises(ScanError, match=rf"047\.dcm.*{message}"):
        find_one(tmp_path / "ct")


@pytest.mark.parametrize("length", [1, 57, 131, 132])
def test_the_rest_of_a_header_is_told_from_other_files(
    length: int, tmp_path: Path, make_series: Make
) -> None:
    make_series(tmp_path / "ct")
    last = tmp_path / "ct" / "047.dcm"
    whole = last.read_bytes()
    last.write_bytes(whole[:length])
    if length < 132:
        with pytest.raises(NotDicom) as caught:
            read_header(last)
        assert caught.value.remains == f"{length} bytes are left of it"
    else:
        assert "it ends with its file meta" in read_header(last).fault
    last.write_bytes(bytes(len(whole)))
    with pytest.raises(NotDicom) as caught:
        read_header(last)
    assert "zeros" in caught.value.remains
    last.write_bytes(b"{}\n" * 100)
    with pytest.raises(NotDicom) as caught:
        read_header(last)
    assert not caught.value.remains


def test_other_objects_stay_other_objects(tmp_path: Path, make_series: Make) -> None:
    """A report, a secondary capture and a private object beside the slices are no broken slices."""
    true = make_series(tmp_path / "ct")
    source = pydicom.dcmread(tmp_path / "ct" / "000.dcm")
    for k, uid in enumerate(
        ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11", "1.3.12.2.1107.5.9.1")
    ):
        source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = uid
        source.save_as(tmp_path / "ct" / f"other{k}.dcm")
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def test_texts_without_end_are_cut(tmp_path: Path, make_series: Make) -> None:
    def endless(ds: Dataset, index: int) -> None:
        ds.SeriesDescription, ds.PatientName = "7" * 65000, "A^B=" * 15000

    true = make_series(tmp_path / "ct", change=endless)
    scan = find_one(tmp_path / "ct")
    assert len(scan.description) == 64
    assert "SeriesDescription is longer than 1024 bytes: cut" in "".join(scan.notes)
    assert np.array_equal(read_scan(scan), true)


def test_files_that_are_mostly_holes(tmp_path: Path, make_series: Make) -> None:
    """Two files of 40 GiB with one SOP Instance UID are refused at once, by name, and the rest is read."""
    true = make_series(tmp_path / "in" / "good", shape=(6, 5, 4))
    make_series(tmp_path / "in" / "bad", shape=(6, 5, 2), seed=1)
    for path in (tmp_path / "in" / "bad").iterdir():
        os.truncate(path, 40 << 30)
    found = find_scans(tmp_path / "in")
    assert [str(e) for e in found.refused if "42949672960 bytes long" not in str(e)] == []
    assert len(found.refused) == 2
    assert np.array_equal(read_scan(found.scans[0]), true)


def test_zeros_without_end_are_not_walked(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", shape=(6, 5, 2), syntax=ImplicitVRLittleEndian)
    path = tmp_path / "ct" / "037.dcm"
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x28\0\x10\0\x02\0")])
    os.truncate(path, 8 << 30)
    start = time.process_time()
    assert "it ends without pixel data" in read_header(path).fault
    assert time.process_time() - start < 1


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
