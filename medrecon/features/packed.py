"""Layers that leave channels empty at some positions, packed: what is kept, and of each position which.

Such a layer is three tensors of its feature file:

- `NAME`: the values kept, position after position (in the order of the layer's shape without its channels),
  at each position in the order of the channels.
- `NAME:which`: for each position the number of its set of channels, uint16 or uint32.
- `NAME:sets`: the sets that occur, in the order of their numbers: a bit for each channel, the first one the
  highest of the first byte, as many bytes for each set as that needs; all of it packed by zlib.

What is kept is what was not zero as float32: it is stored also where its type rounds it to zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

_PIECE = 1 << 22  # values looked at in one go
_MOST_SETS = 1 << 28  # bytes of sets that are unpacked at most
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)


def tensor_names(layer: str) -> tuple[str, str]:
    """The tensors that say which values of a packed layer are there."""
    return f"{layer}:which", f"{layer}:sets"


class Packing:
    """Which channels each position of a layer keeps.

    Args:
        which: number of the set of each position; axes as in the layer's shape, without the channels.
        sets: (sets, bytes) uint8, a bit for each channel.
        channels: of the layer.

    Attributes:
        kept: how many values that is in all.
    """

    def __init__(self, which: np.ndarray, sets: np.ndarray, channels: int) -> None:
        self.which, self.sets, self.channels = which, sets, channels
        self._counts = _BITS[sets].sum(axis=1, dtype=np.int64)
        ends = np.cumsum(self._counts[which.ravel()])
        self.kept = int(ends[-1])
        self._starts = (ends - self._counts[which.ravel()]).reshape(which.shape)

    @classmethod
    def of(cls, values: np.ndarray, channel_axis: int) -> Packing:
        """Of a layer as float32 (four axes), gone through piece by piece: kept is what is not +0."""
        known: dict[bytes, int] = {}
        numbers: list[int] = []
        for _, rows in _rows(values, channel_axis):
            bits = np.packbits(rows.view(np.uint32) != 0, axis=1)
            width, text = bits.shape[1], bits.tobytes()
            numbers += [
                known.setdefault(text[at : at + width], len(known)) for at in range(0, len(text), width)
            ]
        kind = np.uint16 if len(known) <= 1 << 16 else np.uint32
        shape = [n for axis, n in enumerate(values.shape) if axis != channel_axis]
        sets = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1)
        return cls(np.array(numbers, kind).reshape(shape), sets, values.shape[channel_axis])

    @classmethod
    def from_tensors(cls, which: np.ndarray, packed: np.ndarray, sets: int, channels: int) -> Packing:
        """As a file holds it; nothing is believed.

        Args:
            which, packed: the tensors.
            sets: how many there should be.
            channels: of the layer.

        Raises:
            ValueError: it contradicts itself.
        """
        width = -(-channels // 8)
        if sets * width > _MOST_SETS:
            raise ValueError("its sets are too many")
        table = unpack(packed, sets * width).reshape(sets, width)
        if which.size == 0 or int(which.max()) >= sets:
            raise ValueError("a position has a set that is not there")
        if channels % 8 and (table[:, -1] & (0xFF >> channels % 8)).any():
            raise ValueError("a set has a channel that is not there")
        return cls(which, table, channels)

    def tensors(self, layer: str) -> dict[str, np.ndarray]:
        """What a file holds beside the values."""
        packed = np.frombuffer(zlib.compress(self.sets.tobytes(), 9), np.uint8)
        return dict(zip(tensor_names(layer), (self.which, packed), strict=True))

    def fill(
        self, stored: np.ndarray, values: np.ndarray, channel_axis: int, convert: Callable[..., np.ndarray]
    ) -> None:
        """Write a layer's values, (kept,), piece by piece.

        Args:
            stored: where to.
            values: the layer as float32 that this was made of.
            channel_axis: of it.
            convert: (positions, channels) as they are stored.
        """
        which, done = self.which.reshape(len(self.which), -1), 0
        for piece, rows in _rows(values, channel_axis):
            there = self._there(which[piece].ravel())
            some = convert(rows)[there]
            stored[done : done + len(some)] = some
            done += len(some)

    def read(
        self, stored: Callable[[int, int], np.ndarray], index: Sequence[slice], channel_axis: int
    ) -> np.ndarray:
        """A part of a layer with zeros where nothing is kept, as stored; reads no more than whole planes.

        Args:
            stored: gives values from one number to another.
            index: a slice for each axis of the layer's shape.
            channel_axis: of it.
        """
        channels = index[channel_axis]
        rest: list[Any]
        first, *rest = (part for axis, part in enumerate(index) if axis != channel_axis)
        planes = range(*first.indices(len(self.which)))
        zero: Any = (0, *rest)
        form = self.which[zero].shape
        made = np.zeros((len(planes), *form, self.channels), stored(0, 0).dtype)
        for plane, place in zip(made, planes, strict=True):
            here: Any = (place, *rest)
            which, starts = self.which[here].ravel(), self._starts[here].ravel()
            counts = self._counts[which]
            if not counts.sum():
                continue
            low, high = int(starts[0]), int(starts[-1] + counts[-1])
            # the n-th value of a position lies n after its start
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            some = stored(low, high)[np.repeat(starts - low, counts) + within]
            plane.reshape(-1, self.channels)[self._there(which)] = some
        whole = (slice(None),) * channel_axis
        return np.ascontiguousarray(np.moveaxis(made, -1, channel_axis)[(*whole, channels)])

    def _there(self, which: np.ndarray) -> np.ndarray:
        """(positions, channels) bool."""
        bits = np.unpackbits(self.sets[which], axis=1, count=self.channels)
        return bits.view(bool)


def _rows(values: np.ndarray, channel_axis: int) -> Iterator[tuple[slice, np.ndarray]]:
    """A layer as (positions, channels), some planes of its first axis of positions at a time."""
    moved = np.moveaxis(values, channel_axis, -1)
    step = max(1, _PIECE // moved[0].size)
    for start in range(0, len(moved), step):
        piece = slice(start, start + step)
        yield piece, np.ascontiguousarray(moved[piece], np.float32).reshape(-1, moved.shape[-1])


def unpack(packed: np.ndarray, size: int) -> np.ndarray:
    """zlib's bytes, which must be just so many.

    Raises:
        ValueError: there are more or fewer.
    """
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed.tobytes(), size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(raw) != size or not unpacker.eof:
        raise ValueError("it does not unpack to the size it should have")
    return np.frombuffer(raw, np.uint8)
