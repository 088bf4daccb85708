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
    if values.dtype == np.uint64 and values.size and int(values.max()) >= 2**63:
        raise ScanError("whole numbers beyond 2^63", path=scan.path, remedy="rescale the values")
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
    top = max(float(values.max()), -float(values.min())) if values.size else 0.0
    if (top > 1e30 and values.dtype.itemsize == 8) or 0 < top < 1e-30:
        far = "beyond 1e30" if top > 1 else "of no more than 1e-30"
        raise ScanError(f"values {far}", path=scan.path, remedy="rescale the values")
    return values, notes


def beyond_float32(values: np.ndarray) -> list[str]:
    """What must be said of whole numbers that MONAI and networks, which compute in float32, would round."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 4 or not values.size:
        return []
    top = max(abs(int(values.min())), abs(int(values.max())))
    if top <= 1 << 24 or (values.astype(np.float32) == values).all():
        return []
    return [f"whole numbers of up to {top}: float32, in which networks compute, is exact up to {1 << 24}"]


def rescale(values: np.ndarray, slope: float, inter: float, path: Path, bits: int = 64) -> np.ndarray:
    """`values * slope + inter`: in whole numbers where they are, else float32 (up to 16 bits) or float64.

    Args:
        values: stored values, slices first; may be changed in place.
        slope: finite, not zero.
        inter: finite.
        path: the scan, for the message.
        bits: how many bits of the values are in use: saves a search for the largest one.

    Raises:
        ScanError: the result leaves the range of floats.
    """
    if slope == 1 and inter == 0:
        return narrow(values)
    if (
        values.dtype.kind in "iu"
        and float(slope).is_integer()
        and float(inter).is_integer()
        and abs(slope) < 2**31
    ):
        low, high = _bounds(values, bits)
        ends = sorted((low * int(slope) + int(inter), high * int(slope) + int(inter)))
        if max(map(abs, ends)) < 2**62:
            return _whole(values, int(slope), int(inter), integer_kind(ends[0], ends[1]), high)
    with np.errstate(over="ignore", invalid="ignore"):
        top = float(max(abs(np.float64(end) * slope + inter) for end in (values.min(), values.max())))
    if not top <= 1e30 or (0 < top < 1e-30):
        raise ScanError(
            f"scaling by {slope:g} gives values of up to {top:g}, beyond the range of single precision",
            path=path,
            remedy="rescale the values",
        )
    if values.dtype.kind == "f":
        return _scaled(values, slope, inter, np.float32 if values.dtype == np.float32 else np.float64)
    if np.spacing(top) > abs(slope) / 4:
        raise ScanError(
            f"scaling by {slope:g} and {inter:g} makes neighbouring values the same",
            path=path,
            remedy="rescale the values",
        )
    exact = np.spacing(np.float32(top)) <= abs(slope) / 4
    return _scaled(values, slope, inter, np.float32 if values.dtype.itemsize <= 2 and exact else np.float64)


def _scaled(values: np.ndarray, slope: float, inter: float, kind: type) -> np.ndarray:
    """The rescale in double precision, a slice at a time: the whole would take up to eight times as much."""
    result: np.ndarray = np.empty(values.shape, kind)
    for k in range(len(values)):
        result[k] = values[k] * np.float64(slope) + np.float64(inter)
    return result


def _bounds(values: np.ndarray, bits: int) -> tuple[int, int]:
    """The smallest and the largest value, or what the bits in use allow where that fits int16 anyway."""
    if bits <= 14 and values.dtype.itemsize <= 2:
        return (
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if values.dtype.kind == "i" else (0, (1 << bits) - 1)
        )
    return int(values.min()), int(values.max())


def _whole(values: np.ndarray, slope: int, inter: int, kind: np.dtype, high: int) -> np.ndarray:
    """Whole-number rescale into `kind`, in place where the values are 16 bit and stay so."""
    if (
        kind == np.int16
        and values.dtype.itemsize == 2
        and high <= 32767
        and max(abs(slope), abs(inter)) <= 32767
    ):
        result = values.view(np.int16)
        if slope != 1:
            np.multiply(result, np.int16(slope), out=result)
        return np.add(result, np.int16(inter), out=result) if inter else result
    result = np.empty(values.shape, kind)
    wide = np.int32 if kind.itemsize <= 2 and values.dtype.itemsize <= 2 and abs(slope) < 2**15 else np.int64
    for k in range(len(values)):
        np.copyto(result[k, ...], values[k].astype(wide) * wide(slope) + wide(inter), casting="unsafe")
    return result


def is_constant(values: np.ndarray) -> bool:
    """Whether all values are the same; quick where they are not."""
    first = values.flat[0]
    return bool((values[..., 0] == first).all() and (values == first).all())


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
    """The smallest of int16, uint16, int32, int64 for whole numbers from `low` to `high`."""
    for kind in (np.int16, np.uint16, np.int32, np.int64):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    raise OverflowError(f"{low} to {high} leave 64 bits")
