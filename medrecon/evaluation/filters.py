"""Filters along one axis as products with a band matrix: BLAS is several times faster than tap by tap."""

from __future__ import annotations

import numpy as np

_ROWS = 16
"""Results of one product along the axis: more waste work on zeros, fewer are too small for BLAS."""

_SMALL = 1 << 18
"""Multiplications up to which OpenBLAS does a product in the caller's own thread (its interface/gemm.c): our
callers have threads of their own, and BLAS' would spin against them."""


def filter_valid(values: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Correlate along one axis, and keep what the kernel covers wholly.

    Args:
        values: (X, Y, Z), float32.
        kernel: weights, not longer than the axis.
        axis: 0, 1 or 2.

    Returns:
        float32, the axis shorter by the kernel's length less one; `values` itself for a kernel of one weight.
    """
    taps = len(kernel)
    if taps == 1:
        return values
    shape = list(values.shape)
    shape[axis] -= taps - 1
    out = np.empty(shape, dtype=np.float32)
    # the axis becomes the last but one, and what runs beside it the last; for the first axis, all of a plane
    if axis == 0:
        given, taken = (v.reshape(1, len(v), -1) for v in (out, values))
    else:
        given, taken = (v if axis == 1 else v.swapaxes(1, 2) for v in (out, values))
    whole = _band(kernel, min(_ROWS, shape[axis]))
    width = max(1, _SMALL // whole.size)
    for start in range(0, shape[axis], len(whole)):
        rows = min(len(whole), shape[axis] - start)
        band = whole[:rows, : rows + taps - 1]
        for left in range(0, given.shape[2], width):
            part = slice(left, left + width)
            source = taken[:, start : start + rows + taps - 1, part]
            np.matmul(band, source, out=given[:, start : start + rows, part])
    return out


def _band(kernel: np.ndarray, rows: int) -> np.ndarray:
    """(rows, rows + taps - 1), each row with the kernel one place further."""
    band = np.zeros((rows, rows + len(kernel) - 1), dtype=np.float32)
    for row in range(rows):
        band[row, row : row + len(kernel)] = kernel
    return band
