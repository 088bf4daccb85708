"""NIfTI files made for the tests, and edits of their bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

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


def patch(path: Path, offset: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(bytes(data))


def field(offset: int, kind: str, *values: float) -> Callable[[Path], None]:
    return lambda path: patch(path, offset, struct.pack(f"<{kind}", *values))


def flip(path: Path) -> None:
    patch(path, 252, struct.pack("<2h", 1, 1))
    patch(path, 280, struct.pack("<12f", 0.6, 0, 0, 4, 0, 0.75, 0, -7, 0, 0, 2.5, 9))
