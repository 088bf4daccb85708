"""What is odd in a source's header never stops its derived series, nor the good series beside it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medrecon.io import DicomSeriesWriter, ScanError, find_one, find_scans, read_scan
from medrecon.io.dicom.writing.source import check_derivable, source_slices
from medrecon.io.files.outputs import Written

from .dicom_mutants import element, elements, nested

Make = Callable[..., np.ndarray]


def put(path: Path, tag: int, vr: bytes, value: bytes) -> None:
    """Replace or add one element, as it is written here."""
    data = path.read_bytes()
    raw = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    start = end = None
    for at, _, behind in elements(data):
        group, number = struct.unpack_from("<HH", data, at)
        if (group << 16 | number) >= tag and group != 2:
            start, end = at, behind if data[at : at + 4] == raw else at
            break
    new = vr if len(vr) > 2 else element(raw, vr, value)
    path.write_bytes(data[:start] + new + data[end:])


def round_trip(folder: Path, out: Path) -> tuple[np.ndarray, Written]:
    """Write the series of a folder as a derived one; the values that read back."""
    scan = find_one(folder)
    check_derivable(scan)
    writer = DicomSeriesWriter()
    writer.set_data_array(read_scan(scan), channel_dim=None)
    writer.set_scan(scan)
    written = writer.write(out)
    back = find_one(out)
    assert np.abs(back.affine - scan.affine).max() < 1e-6
    return read_scan(back), written


ODD: dict[str, tuple[int, bytes, bytes, str]] = {
    "offset from UTC of 25 hours": (0x00080201, b"SH", b"+2500", "TimezoneOffsetFromUTC"),
    "offset from UTC in words": (0x00080201, b"SH", b"CEST", "TimezoneOffsetFromUTC"),
    "series number in letters": (0x00200011, b"IS", b"abc", ""),
    "series number of 20 digits": (0x00200011, b"IS", b"9" * 20, ""),
    "two series numbers": (0x00200011, b"IS", b"1\\2", ""),
    "instance number in letters": (0x00200013, b"IS", b"abc", ""),
    "padding in words": (0x00280120, b"LO", b"none", "PixelPaddingValue"),
    "padding in three bytes": (0x00280120, b"OB", b"\0\1\2\3", "PixelPaddingValue"),
    "two paddings": (0x00280120, b"US", b"\0\0\1\0", ""),
    "position of unknown representation": (0x00200032, b"UN", b"", ""),
    "position as long text": (0x00200032, b"LO", b"", ""),
    "position as one text": (0x00200032, b"LT", b"", ""),
    "orientation as one text": (0x00200037, b"UT", b"", ""),
    "slope as one text": (0x00281053, b"ST", b"", ""),
    "two body parts": (0x00180015, b"CS", b"CHEST\\ABDOMEN", ""),
    "voltage in words": (0x00180060, b"DS", b"high", ""),
    "age as a sequence": (0x00101010, b"SQ", b"", "PatientAge"),
    "weight in seven bytes": (0x00101030, b"FD", b"1234567", "PatientWeight"),
    "a broken sequence": (0x00082218, b"SQ", b"\xfe\xff\0\xe0\x40\0\0\0", "AnatomicRegionSequence"),
    "a name of 20,000 parts": (0x00100010, b"PN", b"A^" * 20000, ""),
    "comments of 60,000 digits": (0x00204000, b"LT", b"7" * 60000, ""),
    "lossy ratio in words": (0x00282112, b"DS", b"much", ""),
    "binary zeros": (0x00081030, b"LO", b"\0" * 40, ""),
} | {
    f"character set {name}": (0x00080005, b"CS", name.encode(), "SpecificCharacterSet")
    for name in (
        "undefined",
        "idna",
        "base64",
        "punycode",
        "rot13",
        "ISO_IR 999",
        "utf-16",
        "ISO_IR 100\\hex",
    )
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_attribute_stops_nothing(odd: str, tmp_path: Path, make_series: Make) -> None:
    tag, vr, value, lost = ODD[odd]
    true = make_series(tmp_path / "in" / "odd", signed=False)
    make_series(tmp_path / "in" / "good", seed=1)
    for path in (tmp_path / "in" / "odd").iterdir():
        text = value or str(pydicom.dcmread(path)[tag].value).strip("[]").replace(", ", "\\").encode()
        put(path, tag, vr, b"" if vr == b"SQ" and not value else text)
    assert len(find_scans(tmp_path / "in").scans) == 2
    values, written = round_trip(tmp_path / "in" / "odd", tmp_path / "out")
    assert np.array_equal(values, true)
    said = " ".join(w for w in written.warnings if "cannot be carried over" in w)
    assert "resampled" not in " ".join(written.warnings)
    assert lost in said
    assert bool(lost) == bool(said)
    for path in (tmp_path / "out").iterdir():
        derived = pydicom.dcmread(path)
        assert str(derived.get("PatientID", "")) == "ID-4711"
        assert not lost or lost == "SpecificCharacterSet" or lost not in derived
        str(derived)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("depth", [60, 1000])
def test_sequences_without_end(depth: int, undefined: bool, tmp_path: Path, make_series: Make) -> None:
    """Deep ones are left out where their length is known, and refused where one must walk through them."""
    true = make_series(tmp_path / "in" / "deep")
    make_series(tmp_path / "in" / "good", seed=1)
    tag = struct.pack("<HH", 0x0008, 0x2218)
    for path in (tmp_path / "in" / "deep").iterdir():
        put(path, 0x00082218, nested(tag, depth, undefined=undefined), b"")
    found = find_scans(tmp_path / "in")
    if depth == 1000 and undefined:
        assert len(found.scans) == 1
        assert "nested deeper than 64 levels" in str(found.refused[0])
        return
    assert len(found.scans) == 2
    values, written = round_trip(tmp_path / "in" / "deep", tmp_path / "out")
    assert np.array_equal(values, true)
    assert ("AnatomicRegionSequence" in " ".join(written.warnings)) == (depth == 1000)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_texts_keep_their_bytes_in_every_encoding(syntax: str, tmp_path: Path, make_series: Make) -> None:
    """A name whose bytes are not of the declared character set is not replaced by question marks."""
    name = b"M\xfcller^J\xf6rg"

    def declare(ds: Dataset, index: int) -> None:
        ds.SpecificCharacterSet, ds.ReferringPhysicianName = "ISO_IR 192", "M_ller^J_rg"

    make_series(tmp_path / "in", syntax=syntax, change=declare)
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(path.read_bytes().replace(b"M_ller^J_rg", name))
    round_trip(tmp_path / "in", tmp_path / "out")
    assert all(name in path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_numbers_of_big_endian_files_are_turned(tmp_path: Path, make_series: Make) -> None:
    def add(ds: Dataset, index: int) -> None:
        ds.ReconstructionTargetCenterPatient = [1.5, -2.5, 3.25]

    make_series(tmp_path / "in", syntax=ExplicitVRBigEndian, change=add)
    header = source_slices(find_one(tmp_path / "in"))[0].header
    assert list(header.ReconstructionTargetCenterPatient) == [1.5, -2.5, 3.25]


def test_one_slope_among_missing_ones_is_refused(tmp_path: Path, make_series: Make) -> None:
    def forget(ds: Dataset, index: int) -> None:
        if index == 2:
            del ds.RescaleSlope

    make_series(tmp_path / "in", change=forget)
    with pytest.raises(ScanError, match=r"074\.dcm has 'only RescaleIntercept'"):
        find_one(tmp_path / "in")


def test_one_slice_of_another_character_set_gets_the_description_of_all(
    tmp_path: Path, make_series: Make
) -> None:
    true = make_series(tmp_path / "in")
    put(tmp_path / "in" / "074.dcm", 0x00080005, b"CS", b"ISO_IR 192")
    assert np.array_equal(round_trip(tmp_path / "in", tmp_path / "out")[0], true)
