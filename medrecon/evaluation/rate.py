"""How many bits a layer's features take: 8 bits a value, entropy coded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

STEPS = 255


class FeatureCode:
    """The entropy of features that are rounded to 256 steps, channel by channel.

    Two passes over the same tiles: `take_range` finds each channel's smallest and largest value, `quantise`
    rounds to 256 even steps between them and counts how often each step occurs. The rate is the zeroth-order
    entropy of each channel (Shannon 1948): what an ideal entropy coder that knows the channels' histograms
    but no neighbours needs. The histograms themselves (256 counts a channel) are not counted in.
    """

    def __init__(self) -> None:
        self._low: dict[str, torch.Tensor] = {}
        self._high: dict[str, torch.Tensor] = {}
        self._counts: dict[str, np.ndarray] = {}

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
            low, high = self._low[name], self._high[name]
            step = ((high - low) / STEPS).clamp_min(torch.finfo(torch.float32).tiny)
            level = values.detach().float().sub(low.reshape(shape)).div_(step.reshape(shape))
            level = level.round_().clamp_(0, STEPS)
            self._count(name, level)
            coded[name] = level.mul_(step.reshape(shape)).add_(low.reshape(shape)).to(values.dtype)
        return coded

    def _count(self, name: str, level: torch.Tensor) -> None:
        rows = level.movedim(1, 0).flatten(1).to(torch.uint8).cpu().numpy()
        counts = np.stack([np.bincount(row, minlength=STEPS + 1) for row in rows])
        self._counts[name] = self._counts.get(name, 0) + counts

    def forget(self) -> None:
        """Start counting anew; the ranges stay."""
        self._counts.clear()

    def bits_per_value(self, name: str) -> float:
        """Bits that a value of this layer takes, the mean over its channels."""
        counts = self._counts[name]
        return entropy_bits(counts) / float(counts.sum())


def entropy_bits(counts: np.ndarray) -> float:
    """Bits of all symbols under their own distribution: (channels, symbols) counts -> sum over channels."""
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.ones_like(counts), where=counts > 0)
    return float(-(counts * np.log2(share)).sum())
