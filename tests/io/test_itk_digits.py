"""NRRD and MetaImage whose values are text, beside SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medrecon.io import ScanError, find_one, read_scan

from .test_itk import meta, nrrd

_NRRD_NAMES = {
    "signed char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8",
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "text", "txt", "ASCII", "hex", "HEX"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", ">i2"])
def test_values_as_text_in_nrrd(dtype: str, encoding: str, tmp_path: Path) -> None:
    kind = np.dtype(dtype)
    values = np.arange(24).astype(kind) if kind.kind == "u" else (np.arange(24) - 9).astype(kind)
    values = values / 4 if kind.kind == "f" else values
    written = (
        values.astype(kind).tobytes().hex(" ", 2) if encoding.lower() == "hex" else " ".join(map(str, values))
    )
    name = {v: k for k, v in _NRRD_NAMES.items()}[dtype.strip(">")]
    path = nrrd(
        tmp_path,
        written.encode() + b"\n",
        type=name,
        encoding=encoding,
        endian="big" if ">" in dtype else "little",
    )
    found = read_scan(find_one(path))
    assert np.array_equal(found.ravel(order="F"), values)
    if encoding.isupper() or dtype == ">i2":
        return
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel(), values)


@pytest.mark.parametrize(
    ("encoding", "text", "message"),
    [
        ("ascii", "1 " * 23, "cut short"),
        ("ascii", "11 " * 23, "23 numbers instead of 24"),
        ("ascii", "1 " * 25, "25 numbers instead of 24"),
        ("ascii", "1 " * 23 + "x", "something else"),
        ("ascii", "1 " * 23 + "256", "numbers that uint8 does not"),
        ("ascii", "1 " * 23 + "1.5", "something else"),
        ("ascii", "1," * 24, "something else"),
        ("hex", "0a" * 23, "cut short"),
        ("hex", "0a" * 25, "25 numbers"),
        ("hex", "0g" * 24, "something else"),
        ("bzip2", "0a" * 24, "encoding 'bzip2'"),
    ],
)
def test_text_that_is_no_values(encoding: str, text: str, message: str, tmp_path: Path) -> None:
    path = nrrd(tmp_path, text.encode(), encoding=encoding)
    with pytest.raises(ScanError, match=message):
        read_scan(find_one(path))


@pytest.mark.parametrize("kind", ["MET_UCHAR", "MET_SHORT", "MET_FLOAT", "MET_DOUBLE"])
def test_values_as_text_in_metaimage(kind: str, tmp_path: Path) -> None:
    values = np.arange(24) / 4 if kind in ("MET_FLOAT", "MET_DOUBLE") else np.arange(24)
    text = " ".join(map(str, values)) + "\n"
    path = meta(tmp_path, text.encode(), ElementType=kind, BinaryData="False")
    assert np.array_equal(read_scan(find_one(path)).ravel(order="F"), values)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel(), values)
    with pytest.raises(ScanError, match="contradict each other"):
        find_one(meta(tmp_path, bytes(24), BinaryData="False", CompressedData="True"))
