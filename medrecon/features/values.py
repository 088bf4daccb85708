"""The numbers in a feature file: float32 as computed, float16 or int8 with a scale for each channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

_PIECE = 1 << 23  # values converted in one go
_FLOAT16 = (2.0**-6, float(np.finfo(np.float16).max))
"""A channel whose largest value lies between these needs no scale."""

_TINY = float(np.finfo(np.float32).tiny)


def pieces(shape: Sequence[int], most: int = _PIECE) -> Iterator[tuple[slice, ...]]:
    """Cut an array into runs along its first axis, and along its second where one row is too large."""
    row, line = math.prod(shape[1:]), math.prod(shape[2:])
    if row <= most:
        step = max(1, most // row)
        yield from ((slice(a, a + step),) for a in range(0, shape[0], step))
        return
    step = max(1, most // line)
    for a in range(shape[0]):
        yield from ((slice(a, a + 1), slice(b, b + step)) for b in range(0, shape[1], step))


def largest(values: np.ndarray, channel_axis: int) -> np.ndarray:
    """The largest absolute value of each channel, (C,) float64; piece by piece."""
    found = np.zeros(values.shape[channel_axis])
    for piece in pieces(values.shape):
        block = np.abs(values[piece])
        peaks = block.max(axis=tuple(a for a in range(block.ndim) if a != channel_axis))
        here = piece[channel_axis] if channel_axis < len(piece) else slice(None)
        found[here] = np.maximum(found[here], peaks)
    return found


def scales(peaks: np.ndarray, dtype: str) -> tuple[float, ...] | None:
    """What the stored numbers of each channel are multiplied by; None where nothing is.

    int8: symmetric, the largest value of a channel is 127. float16: a power of two (nothing is lost by it),
    and only for channels that would overflow or come near the smallest numbers.

    Args:
        peaks: as `largest` gives them.
        dtype: "float32", "float16" or "int8".
    """
    if dtype == "float32":
        return None
    if dtype == "int8":
        steps = (peaks / 127).astype(np.float32)
        return tuple(float(s) if s >= _TINY else 1.0 for s in steps)
    low, high = _FLOAT16
    found = [1.0 if low <= p <= high or p < _TINY else 2.0 ** math.floor(math.log2(p)) for p in peaks]
    return tuple(found) if any(s != 1 for s in found) else None


def to_stored(block: np.ndarray, scale: np.ndarray, dtype: str) -> np.ndarray:
    """Values as they are stored.

    Args:
        block: float32.
        scale: broadcasts against it.
        dtype: "float32", "float16" or "int8".
    """
    if dtype == "int8":
        return np.clip(np.rint(block / scale), -127, 127).astype(np.int8)
    return (block / scale).astype(dtype) if dtype == "float16" else block


def from_stored(block: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Stored numbers as values, float32."""
    values: np.ndarray = block.astype(np.float32) * scale
    return values


def along(scale: Sequence[float] | None, channel_axis: int, piece: Sequence[slice] = ()) -> np.ndarray:
    """The scales of a piece of a layer's array (four axes), ready to be broadcast against it; 1 for None."""
    if scale is None:
        return np.ones((1, 1, 1, 1), np.float32)
    some = np.asarray(scale, np.float32)
    if channel_axis < len(piece):
        some = some[piece[channel_axis]]
    form = [1, 1, 1, 1]
    form[channel_axis] = len(some)
    return some.reshape(form)
