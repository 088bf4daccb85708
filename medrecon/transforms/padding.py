"""Voxels outside the scanner's field of view: remembered in a few bytes, put back exactly."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_CHUNK = 1 << 24  # voxels looked at in one go: bounds the memory of masks


def pack_below(image: torch.Tensor, low: float) -> dict[str, Any]:
    """Remember where `image` lies below `low`, and what it holds there.

    The mask is kept as zlib-compressed bits and the values as zlib-compressed source values: some kilobytes
    for the padding around a round field of view. The volume is gone through in slabs along its first spatial
    axis; it is never copied whole.

    Args:
        image: (C, *spatial), any dtype and memory layout.
        low: values strictly below are remembered.

    Returns:
        `shape`, `dtype`, and `mask` and `values` as uint8 tensors; empty when nothing is below.
    """
    array = image.detach().cpu().numpy()
    mask_stream, value_stream = zlib.compressobj(1), zlib.compressobj(1)
    mask, values, count = bytearray(), bytearray(), 0
    for channel, start, stop in _slabs(tuple(image.shape)):
        slab = array[channel, start:stop].reshape(stop - start, -1)
        below = slab < low
        count += int(np.count_nonzero(below))
        mask += mask_stream.compress(np.packbits(below, axis=1).tobytes())
        values += value_stream.compress(slab[below].tobytes())
    if not count:
        return {}
    mask += mask_stream.flush()
    values += value_stream.flush()
    return {
        "shape": tuple(image.shape),
        "dtype": array.dtype.name,
        "mask": torch.frombuffer(mask, dtype=torch.uint8),
        "values": torch.frombuffer(values, dtype=torch.uint8),
    }


def restore_below(image: torch.Tensor, packed: dict[str, Any]) -> None:
    """Put the values of `pack_below` back, in place.

    Args:
        image: contiguous, (R, *spatial); each channel gets the values of a one-channel source, or its own
            channel's where the source had as many.
        packed: what `pack_below` returned for the source (C, *spatial).

    Raises:
        ValueError: the grid is not the source's, or the channels cannot be matched.
    """
    if not packed:
        return
    shape = tuple(int(n) for n in packed["shape"])
    if tuple(image.shape[1:]) != shape[1:] or shape[0] not in (1, image.shape[0]):
        raise ValueError(
            f"image of shape {tuple(image.shape)} cannot take back the padding of a source of shape {shape}; "
            "undo the spatial transforms first"
        )
    raw = zlib.decompress(packed["values"].cpu().numpy().tobytes())
    values = torch.from_numpy(np.frombuffer(raw, dtype=packed["dtype"]).astype(np.float64)).to(image)
    bits, pending = zlib.decompressobj(), packed["mask"].cpu().numpy().tobytes()
    row, done = math.prod(shape[2:]), 0
    for channel, start, stop in _slabs(shape):
        wanted = (stop - start) * ((row + 7) // 8)
        piece = bits.decompress(pending, wanted)
        pending = bits.unconsumed_tail
        packed_rows = np.frombuffer(piece, np.uint8).reshape(stop - start, -1)
        where = np.flatnonzero(np.unpackbits(packed_rows, axis=1, count=row))
        target = image[:, start:stop] if shape[0] == 1 else image[channel : channel + 1, start:stop]
        index = torch.from_numpy(where).to(image.device)
        target.view(target.shape[0], -1)[:, index] = values[done : done + len(where)]
        done += len(where)


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Cut (C, *spatial) into channel, first and last row of slabs of about _CHUNK voxels."""
    rows = max(1, _CHUNK // max(1, math.prod(shape[2:])))
    for channel in range(shape[0]):
        for start in range(0, shape[1], rows):
            yield channel, start, min(start + rows, shape[1])
