"""How many bits a layer's features take: 8 bits a value, or steps of one width for all; entropy coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

STEPS = 255
_MOST = 8191  # steps either way that a sparse layer has at most


@dataclass(frozen=True)
class SparseLayer:
    """What is known of a layer that keeps a set of channels at each position, and zero in the others.

    Args:
        sets: (sets, channels) bool: the sets there are, known to both ends, as weights are. A channel in all
            of them is never empty.
        step: of all channels: the same error costs the image the same in each.
    """

    sets: np.ndarray
    step: float


@dataclass
class _Counts:
    """How often each symbol occurs: of each channel's values, and of the sets."""

    values: np.ndarray
    sets: np.ndarray
    most: int
    places: int = 0
    known: dict[bytes, int] = field(default_factory=dict)


class FeatureCode:
    """The entropy of features that are rounded to 256 steps or fewer, channel by channel.

    Two passes over the same tiles: `take_range` finds each channel's smallest and largest value, `quantise`
    rounds to 256 even steps between them and counts how often each step occurs. The rate is the zeroth-order
    entropy of each channel (Shannon 1948): what an ideal entropy coder that knows the channels' histograms
    but no neighbours needs. The histograms themselves (256 counts a channel) are not counted in.

    Sparse layers are coded in two parts: the number of each position's set, by its entropy over positions;
    and the values of the channels in the set, in multiples of `SparseLayer.step`, so that zero stays zero.
    (256 steps for each channel would be too coarse for its few large values, too fine for the many small
    ones.) With few values for each of many channels the histograms matter and are counted in: a list of the
    symbols that occur, and half the logarithm of the values counted for each but one (Rissanen 1983), where
    even odds for all symbols in range do not take less; the channels that may be empty have one histogram
    for each or one for all, whichever takes less.

    Args:
        sparse: layer -> what is known of it.
    """

    def __init__(self, sparse: Mapping[str, SparseLayer] | None = None) -> None:
        self.sparse = dict(sparse or {})
        self._low: dict[str, torch.Tensor] = {}
        self._high: dict[str, torch.Tensor] = {}
        self._counts: dict[str, _Counts] = {}

    def take_range(self, features: Mapping[str, torch.Tensor]) -> None:
        """Take in the values of a tile: name -> (B, C, *positions)."""
        for name, values in features.items():
            flat = values.detach().float().movedim(1, 0).flatten(1)
            low, high = flat.amin(dim=1), flat.amax(dim=1)
            self._low[name] = torch.minimum(self._low.get(name, low), low)
            self._high[name] = torch.maximum(self._high.get(name, high), high)

    def quantise(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The features rounded to their steps, in their own units and type; counts the steps on the way."""
        coded = {}
        for name, values in features.items():
            shape = (1, -1, *[1] * (values.ndim - 2))
            zero, step = (part.reshape(shape) for part in self._steps(name))
            level = values.detach().float().sub(zero).div_(step).round_()
            level = level.clamp_(-_MOST, _MOST) if name in self.sparse else level.clamp_(0, STEPS)
            self._count(name, values, level)
            coded[name] = level.mul_(step).add_(zero).to(values.dtype)
        return coded

    def _steps(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(C,) each: the value of symbol 0, and the width of a step."""
        low, high = self._low[name], self._high[name]
        step = (high - low) / STEPS
        if name in self.sparse:
            finest = float(torch.maximum(high, -low).max()) / _MOST
            low, step = torch.zeros_like(low), torch.full_like(step, max(self.sparse[name].step, finest))
        return low, step.clamp_min(torch.finfo(torch.float32).tiny)

    def _count(self, name: str, features: torch.Tensor, level: torch.Tensor) -> None:
        rows = level.movedim(1, 0).flatten(1).cpu().numpy().astype(np.int16)
        if name not in self._counts:
            sets, most = np.zeros((0, len(rows)), bool), STEPS
            if name in self.sparse:
                sets = self.sparse[name].sets
                far = torch.maximum(self._high[name], -self._low[name]) / self._steps(name)[1]
                most = min(_MOST, int(far.max()) + 1)
            known = {one.tobytes(): number for number, one in enumerate(np.packbits(sets, axis=1))}
            values = np.zeros((len(rows), 2 * most + 1), np.int64)
            self._counts[name] = _Counts(values, np.zeros(len(sets), np.int64), most, known=known)
        counts = self._counts[name]
        counts.places += rows.shape[1]
        there = None
        if name in self.sparse:
            kept = (features.detach().movedim(1, 0).flatten(1) != 0).cpu().numpy()
            there = self._kept_sets(name, kept, counts)
        for channel, row in enumerate(rows):
            some = row if there is None else row[there[channel]]
            counts.values[channel] += np.bincount(some + counts.most, minlength=2 * counts.most + 1)

    def _kept_sets(self, name: str, kept: np.ndarray, counts: _Counts) -> np.ndarray:
        """(C, positions): which channels are coded at each position; counts the sets on the way."""
        sets = self.sparse[name].sets
        sizes = sets.sum(axis=1)
        numbers = np.empty(kept.shape[1], np.int64)
        for place, (one, bits) in enumerate(zip(kept.T, np.packbits(kept.T, axis=1), strict=True)):
            number = counts.known.get(bits.tobytes())
            if number is None:
                # a value that is kept happens to be zero: the smallest set that holds the others
                room = sets[:, one].all(axis=1)
                if not room.any():
                    raise ValueError(f"layer {name} keeps channels that no set of its encoder has")
                number = int(np.where(room, sizes, sizes.max() + 1).argmin())
                counts.known[bits.tobytes()] = number
            numbers[place] = number
        counts.sets += np.bincount(numbers, minlength=len(sets))
        there: np.ndarray = sets[numbers].T
        return there

    def forget(self) -> None:
        """Start counting anew; the ranges stay."""
        self._counts.clear()

    def bits_per_value(self, name: str) -> float:
        """Bits that the layer takes for each number of its tensor, empty channels counted as numbers."""
        counts = self._counts[name]
        total = float(counts.places * len(counts.values))
        if name not in self.sparse:
            return entropy_bits(counts.values) / total
        always = self.sparse[name].sets.all(axis=0)
        some = counts.values[~always]
        numbers = min(_bits_with_histograms(some), _bits_with_histograms(some.sum(axis=0, keepdims=True)))
        numbers += _bits_with_histograms(counts.values[always]) + _bits_with_histograms(counts.sets[None])
        return numbers / total


def entropy_bits(counts: np.ndarray) -> float:
    """Bits of all symbols under their own distribution: (channels, symbols) counts -> sum over channels."""
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.ones_like(counts), where=counts > 0)
    return float(-(counts * np.log2(share)).sum())


def _bits_with_histograms(counts: np.ndarray) -> float:
    """The same, and what it takes to tell the distributions as exactly as so many symbols need."""
    bits, range_ = 0.0, np.flatnonzero(counts.any(axis=0))
    size = float(range_[-1] - range_[0] + 1) if len(range_) else 1.0
    for row in counts:
        there = np.flatnonzero(row)
        if len(there):
            total = float(row.sum())
            told = (len(there) - 1) * np.log2(total) / 2 + min(len(there) * np.log2(size), size)
            even = total * np.log2(size)
            bits += min(entropy_bits(row[None]) + told, even)
    return float(bits)
