"""What all volume files share: the choice of a volume, finite values, scaling without loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medrecon.io.scan import Scan, ScanError


def pick_volume(shape: Sequence[int], volume: int | None, path: Path) -> int:
    """Which volume of a file with dimensions beyond three is read.

    Raises:
        ScanError: several and none chosen, a choice that is not there, five dimensions or more.
    """
    if len(shape) > 4:
        raise ScanError(
            f"{len(shape)} dimensions ({' x '.join(map(str, shape))}): no scalar volume",
            path=path,
            remedy="save one component as a file of its own",
        )
    count = shape[3] if len(shape) == 4 else 1
    if count == 1 and volume in (None, 0):
        return 0
    if volume is None or not 0 <= volume < count:
        raise ScanError(
            f"holds {count} volume(s) of {' x '.join(map(str, shape[:3]))}",
            path=path,
            remedy=f"choose one with --volume 0 ... {count - 1}",
        )
    return volume


def check_finite(values: np.ndarray, scan: Scan) -> tuple[np.ndarray, list[str]]:
    """Refuse NaN, Inf and values beyond float32's range, or replace the first two where the user allows it.

    Raises:
        ScanError: with their number.
    """
    if values.dtype.kind != "f":
        return values, []
    finite = np.isfinite(values)
    bad = values.size - int(np.count_nonzero(finite))
    notes = []
    if bad:
        if scan.options.replace_nonfinite is None:
            raise ScanError(
                f"{bad} voxels are NaN or Inf",
                path=scan.path,
                remedy="replace them with --replace-nonfinite 0",
            )
        values = np.where(finite, values, values.dtype.type(scan.options.replace_nonfinite))
        notes.append(f"{bad} voxels were NaN or Inf: set to {scan.options.replace_nonfinite:g}")
    if values.dtype.itemsize == 8 and values.size and np.abs(values).max() > 1e30:
        raise ScanError("values beyond 1e30", path=scan.path, remedy="rescale the values")
    return values, notes


def rescale(values: np.ndarray, slope: float, inter: float, path: Path) -> np.ndarray:
    """`values * slope + inter`: in whole numbers where they are, else float32 (up to 16 bits) or float64."""
    if slope == 1 and inter == 0:
        return narrow(values)
    if (
        values.dtype.kind in "iu"
        and float(slope).is_integer()
        and float(inter).is_integer()
        and abs(slope) < 2**31
    ):
        low, high = int(values.min()), int(values.max())
        ends = sorted((low * int(slope) + int(inter), high * int(slope) + int(inter)))
        if -(2**62) < ends[0] and ends[1] < 2**62:
            kind = integer_kind(ends[0], ends[1])
            return (values.astype(np.int64) * int(slope) + int(inter)).astype(kind)
    small = values.dtype.itemsize <= 2 or values.dtype == np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        result = (values * np.float64(slope) + np.float64(inter)).astype(np.float32 if small else np.float64)
    if not np.isfinite(result).all():
        raise ScanError(
            f"scaling by {slope:g} leaves the range of floats", path=path, remedy="rescale the values"
        )
    return result


def narrow(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type of int16, uint16, int32, int64 that holds them; 8 bits stay."""
    if (
        values.dtype.kind not in "iu"
        or values.dtype.itemsize == 1
        or values.dtype == np.int16
        or not values.size
    ):
        return values if values.dtype != np.int8 else values.astype(np.int16)
    if values.dtype == np.uint16 and int(values.max()) <= 32767:
        return values.view(np.int16)
    return values.astype(integer_kind(int(values.min()), int(values.max())), copy=False)


def integer_kind(low: int, high: int) -> np.dtype:
    """The smallest of int16, uint16, int32, int64, uint64 for whole numbers from `low` to `high`."""
    for kind in (np.int16, np.uint16, np.int32, np.int64):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.uint64)
