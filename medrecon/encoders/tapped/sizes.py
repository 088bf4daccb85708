"""The sizes that a network takes, and images padded to them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from medrecon.encoders.tapped.layout import Shape, times
from medrecon.encoders.tapped.probe import Survey, Tap
from medrecon.errors import ModelError


class Sizes:
    """Pads images to sizes that a network takes.

    Args:
        network: run for its shapes where they must be tried.
        survey: what is known of it.
        taps: the layers that must cover the image.
    """

    def __init__(self, network: nn.Module, survey: Survey, taps: Mapping[str, Tap]) -> None:
        self.network, self.survey, self.taps = network, survey, taps
        self.spare = self._shortfall()
        self._padded: dict[Shape, Shape] = {}

    def _shortfall(self) -> Shape:
        """Voxels to add so that layers of convolutions without padding cover the whole image too."""
        spare = [0] * self.survey.spatial_dims
        if self.survey.window is None and any(tap.layout.kind == "grid" for tap in self.taps.values()):
            size = tuple(8 * n for n in self.survey.least)
            seen = self.survey.runner(self.network).shapes(size, 1) or {}
            for name, tap in self.taps.items():
                if tap.layout.kind != "grid" or name not in seen:
                    continue
                there = [seen[name].shape[place] for place in tap.layout.order[2:]]
                for axis, (n, full) in enumerate(zip(there, tap.layout.positions(size), strict=True)):
                    spare[axis] = max(spare[axis], (full - n) * tap.layout.stride[axis])
        return tuple(spare)

    def pad(self, image: torch.Tensor) -> torch.Tensor:
        """Repeat the far ends up to a size that the network takes."""
        size = tuple(image.shape[2:])
        if size not in self._padded:
            self._padded = {size: self._size_for(size)}
        target = self._padded[size]
        missing = [p for n, t in zip(reversed(size), reversed(target), strict=True) for p in (0, t - n)]
        return functional.pad(image, missing, mode="replicate") if any(missing) else image

    def _size_for(self, size: Shape) -> Shape:
        fixed = self.survey.window
        if fixed is not None:
            if any(n > f for n, f in zip(size, fixed, strict=True)):
                raise ModelError(
                    f"this network takes images of {times(fixed)} only, not {times(size)}",
                    remedy="give it windows of that size",
                )
            return fixed
        wanted = [
            math.ceil((n + spare) / m) * m
            for n, spare, m in zip(size, self.spare, self.survey.multiple, strict=True)
        ]
        runner = self.survey.runner(self.network)
        for _ in range(8):
            enough = all(n >= least for n, least in zip(wanted, self.survey.least, strict=True))
            if enough or runner.takes(wanted):
                return tuple(wanted)
            short = min(range(len(wanted)), key=lambda axis: wanted[axis] / self.survey.multiple[axis])
            wanted[short] += self.survey.multiple[short]
        return tuple(max(n, least) for n, least in zip(wanted, self.survey.least, strict=True))
