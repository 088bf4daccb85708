"""Turn a volume round in memory, converting on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BLOCK = 1 << 19  # voxels worked on at a time


def turned(
    volume: np.ndarray, dtype: np.dtype, convert: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """A volume as (Z, Y, X) in C order, in blocks that fit the cache.

    Args:
        volume: (X, Y, Z), in any memory order.
        dtype: of the result.
        convert: gets a block (X, some of Y, Z) and gives its new values.
    """
    out = np.empty(volume.shape[::-1], dtype)
    rows = max(1, _BLOCK * volume.shape[1] // max(1, volume.size))
    for start in range(0, volume.shape[1], rows):  # along Y: whole lines are read and written, X or Z first
        place = np.s_[:, start : start + rows, :]
        part = volume[place]
        if convert is not None:
            part = convert(part)
        out[place] = part.astype(dtype, copy=False).transpose(2, 1, 0)
    return out
