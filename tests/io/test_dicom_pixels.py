"""Stored values become units exactly: every width and sign, per-slice rescale, every codec, within limits."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from medrecon.io import ScanError, find_one, read_scan
from medrecon.io.dicom.reading.codecs import split_frames, to_stored

Make = Callable[..., np.ndarray]


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_width_and_sign(bits: int, signed: bool, tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct", bits=bits, signed=signed)
    values = read_scan(find_one(tmp_path / "ct"))
    assert np.array_equal(values, true)
    assert values.dtype == (np.int32 if bits == 16 else np.int16)


@pytest.mark.parametrize(
    ("slope", "intercept", "kind"),
    [
        (1.0, 0.0, np.int16),
        (1.0, -1024.0, np.int16),
        (2.0, 5.0, np.int16),
        (100.0, -1024.0, np.int32),
        (-1.0, 7.0, np.int16),
        (0.5, 0.0, np.float32),
        (1.0, 0.25, np.float32),
    ],
)
def test_rescale_is_exact(
    slope: float, intercept: float, kind: type, tmp_path: Path, make_series: Make
) -> None:
    true = make_series(tmp_path / "ct", slopes=slope, intercept=intercept)
    values = read_scan(find_one(tmp_path / "ct"))
    assert values.dtype == kind
    assert np.array_equal(values, true)


@pytest.mark.parametrize("slopes", [[1.0, 2, 3, 4, 5], [0.1, 0.02, 0.3, 7.5, 1.25]])
def test_each_slice_has_its_own_slope(slopes: list[float], tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "pt", "PT", slopes=slopes, intercept=0)
    values = read_scan(find_one(tmp_path / "pt"))
    assert np.allclose(values, true, rtol=1e-7, atol=0)
    assert values.dtype == (np.int16 if slopes[0] == 1 else np.float32)


def test_mixed_signs(tmp_path: Path, make_series: Make) -> None:
    def turn(ds: Dataset, index: int) -> None:
        if index % 2:
            stored = np.frombuffer(ds.PixelData, "<u2").astype(np.int32) - 1024
            ds.PixelData, ds.PixelRepresentation = stored.astype("<i2").tobytes(), 1
            ds.RescaleIntercept, ds.BitsStored, ds.HighBit = "0", 16, 15

    true = make_series(tmp_path / "ct", change=turn)
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_that_are_not_stored_are_masked(signed: bool, tmp_path: Path, make_series: Make) -> None:
    def dirty(ds: Dataset, index: int) -> None:
        raw = np.frombuffer(ds.PixelData, "<u2") & 0x0FFF
        ds.PixelData = (raw | 0xA000).astype("<u2").tobytes()

    true = make_series(tmp_path / "ct", signed=signed, change=dirty)
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def test_eight_and_thirty_two_bits(tmp_path: Path, make_series: Make) -> None:
    rng = np.random.default_rng(1)
    stored = {8: rng.integers(0, 256, (5, 12, 14)), 32: rng.integers(0, 2**31, (5, 12, 14))}

    def width(bits: int) -> Callable[[Dataset, int], None]:
        def change(ds: Dataset, index: int) -> None:
            ds.BitsAllocated = ds.BitsStored = bits
            ds.HighBit = bits - 1
            ds.PixelData = stored[bits][index].astype(f"<u{bits // 8}").tobytes()

        return change

    for bits, dtype in ((8, np.int16), (32, np.int32)):
        make_series(tmp_path / str(bits), intercept=-5, change=width(bits))
        values = read_scan(find_one(tmp_path / str(bits)))
        assert np.array_equal(values, stored[bits].transpose(2, 1, 0) - 5)
        assert values.dtype == dtype


@pytest.mark.parametrize(("name", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_float_pixel_data_are_no_integers(name: str, kind: str, tmp_path: Path, make_series: Make) -> None:
    def change(ds: Dataset, index: int) -> None:
        values = np.frombuffer(ds.PixelData, "<u2").astype(kind) - 992.75
        del ds.PixelData
        setattr(ds, name, values.tobytes())
        ds.BitsAllocated = ds.BitsStored = 8 * values.itemsize
        ds.HighBit = ds.BitsStored - 1

    make_series(tmp_path / "ct", change=change)
    with pytest.raises(ScanError, match=r"\.dcm: holds Float Pixel Data"):
        find_one(tmp_path / "ct")


def codec(name: str, image: np.ndarray) -> bytes:
    """One compressed frame; 16-bit images hold 12 bits."""
    if name == "baseline":
        return imagecodecs.jpeg8_encode((image >> 4).astype(np.uint8), level=100)
    if name == "extended":
        return imagecodecs.jpeg_encode(image.astype(np.uint16), level=100, bitspersample=12)
    if name == "lossless":
        return imagecodecs.ljpeg_encode(image.astype(np.uint16), bitspersample=12)
    if name == "ls":
        return imagecodecs.jpegls_encode(image.astype(np.uint16))
    if name == "j2k":
        return imagecodecs.jpeg2k_encode(image.astype(np.uint16), level=0, reversible=True, codecformat="J2K")
    return imagecodecs.htj2k_encode(image.astype(np.uint16), reversible=True)


CODECS = {
    "baseline": ("1.2.840.10008.1.2.4.50", 3),
    "extended": ("1.2.840.10008.1.2.4.51", 6),
    "lossless": ("1.2.840.10008.1.2.4.70", 0),
    "ls": ("1.2.840.10008.1.2.4.80", 0),
    "j2k": ("1.2.840.10008.1.2.4.90", 0),
    "htj2k": ("1.2.840.10008.1.2.4.201", 0),
}


def compress(name: str, pieces: int = 1) -> Callable[[Dataset, int], None]:
    """Compress each slice of a smooth image, in several fragments if wanted."""

    def change(ds: Dataset, index: int) -> None:
        y, x = np.mgrid[: ds.Rows, : ds.Columns]
        image = (300 * index + 16 * x + 40 * y + 100).astype(np.uint16)
        data = codec(name, image)
        ds.file_meta.TransferSyntaxUID = UID(CODECS[name][0])
        ds.PixelData = encapsulate([data], fragments_per_frame=pieces)
        if name == "baseline":
            ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7

    return change


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("name", CODECS)
def test_codecs(name: str, pieces: int, tmp_path: Path, make_series: Make) -> None:
    if name == "htj2k" and not hasattr(imagecodecs, "HTJ2K"):
        pytest.skip("this imagecodecs writes no HTJ2K")
    make_series(tmp_path / "ct", shape=(40, 24, 3), change=compress(name, pieces))
    x, y, z = np.mgrid[:40, :24, :3]
    true = 300 * z + 16 * x + 40 * y + 100
    true = true // 16 - 1024 if name == "baseline" else true - 1024
    values = read_scan(find_one(tmp_path / "ct"))
    assert np.abs(values - true).max() <= CODECS[name][1]


@pytest.mark.parametrize("signed", [False, True])
def test_rle(signed: bool, tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct", syntax=RLELossless, signed=signed)
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


@pytest.mark.parametrize("slopes", [1.0, [0.5, 2, 1, 0.25, 3]])
@pytest.mark.parametrize("signed", [False, True])
def test_some_slices_compressed(signed: bool, slopes: Any, tmp_path: Path, make_series: Make) -> None:
    def odd_ones(ds: Dataset, index: int) -> None:
        if index % 2:
            ds.compress(RLELossless)

    true = make_series(tmp_path / "ct", signed=signed, slopes=slopes, change=odd_ones)
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def replaced(data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        ds = pydicom.dcmread(path)
        ds.PixelData = encapsulate([data])
        ds.save_as(path)

    return change


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 60)


DAMAGE = {
    "rubbish": replaced(b"\xff\x4f" + bytes(range(256)) * 4),
    "another size": replaced(codec("j2k", np.zeros((9, 9), np.uint16))),
    "colour": replaced(
        imagecodecs.jpeg2k_encode(np.zeros((24, 40, 3), np.uint8), level=0, codecformat="J2K")
    ),
    "cut": cut,
    "nothing": lambda path: replaced(b"\0\0")(path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_broken_streams_are_refused_by_name(damage: str, tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", shape=(40, 24, 3), change=compress("j2k"))
    DAMAGE[damage](tmp_path / "ct" / "037.dcm")
    with pytest.raises(ScanError, match=r"037\.dcm") as caught:
        read_scan(find_one(tmp_path / "ct"))
    assert caught.value.remedy


def test_unknown_syntax_is_named(tmp_path: Path, make_series: Make) -> None:
    def video(ds: Dataset, index: int) -> None:
        compress("j2k")(ds, index)
        ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")

    make_series(tmp_path / "ct", change=video)
    with pytest.raises(ScanError, match=r"1\.2\.840\.10008\.1\.2\.4\.100 is not supported"):
        read_scan(find_one(tmp_path / "ct"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, DeflatedExplicitVRLittleEndian])
def test_a_file_that_changes_is_refused(syntax: str, tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", syntax=syntax)
    scan = find_one(tmp_path / "ct")
    with scan.files[2].open("ab") as stream:
        stream.write(b"\0\0")
    with pytest.raises(ScanError, match="changed while it was read"):
        read_scan(scan)


def test_split_frames_by_table_number_and_markers() -> None:
    parts = [b"ab", b"cd\xff\xd9", b"ef", b"gh", b"ij\xff\xd9"]
    joined = [b"abcd\xff\xd9", b"efghij\xff\xd9"]
    end = frozenset((b"\xff\xd9",))
    table = struct.pack("<2L", 0, 2 + 8 + 4 + 8)
    assert split_frames([table, *parts], 2, end) == joined
    assert split_frames([b"", *parts], 2, end) == joined
    assert split_frames([b"", *joined], 2, end) == joined
    assert split_frames([b"", *parts], 1, end) == [b"".join(parts)]
    for count in (3, 4):
        with pytest.raises(ValueError, match="do not make"):
            split_frames([b"", *parts], count, end)
    with pytest.raises(ValueError, match="no fragment"):
        split_frames([b""], 1, end)


def test_to_stored_reinterprets_the_sign() -> None:
    image = np.array([[0x0FFF, 0x0800, 0x07FF, 0x0000]], np.uint16)
    assert to_stored(image.copy(), 12, 16, True).tolist() == [[-1, -2048, 2047, 0]]
    assert to_stored(image.view(np.int16).copy(), 12, 16, False).tolist() == [[4095, 2048, 2047, 0]]
