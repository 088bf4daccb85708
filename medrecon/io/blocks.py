"""Turn a volume round in memory, converting on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BLOCK = 1 << 19  # voxels worked on at a time


def turned(
    volume: np.ndarray, dtype: np.dtype, convert: Callable[[np.ndarray, slice], np.ndarray] | None = None
) -> np.ndarray:
    """A volume as (Z, Y, X) in C order, in blocks that fit the cache.

    Args:
        volume: (X, Y, Z), in any memory order.
        dtype: of the result.
        convert: gets a block (x, y, z) and which slices it is of, and gives its new values.
    """
    out = np.empty(volume.shape[::-1], dtype)
    axis = int(np.argmax(np.abs(volume.strides)))
    step = max(1, _BLOCK * volume.shape[axis] // max(1, volume.size))
    for start in range(0, volume.shape[axis], step):
        place: list[slice] = [slice(None)] * 3
        place[axis] = slice(start, start + step)
        part = volume[tuple(place)]
        if convert is not None:
            part = convert(part, place[2])
        out[tuple(place[::-1])] = part.astype(dtype, copy=False).transpose(2, 1, 0)
    return out
