"""How values are kept and shown in a scene: the data type, and round limits for the colour scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from medrecon.evaluation.scores import AtlasVolumes
from medrecon.report.scene_files import Slab

_SAMPLES = 1_000_000
_SHARE = 99.5
"""Percent of the errors that the scale holds; beyond it they have the scale's last colour."""

_FLOAT, _WHOLE = np.dtype(np.float32), np.dtype(np.int16)


class Store:
    """Whole numbers stay whole: int16 where the values fit, after rounding to the source's steps of one.

    Args:
        source: (X, Y, Z); where it is in HU or holds nothing but whole numbers, all volumes are rounded.
        units: "HU", or the source's.
    """

    def __init__(self, source: np.ndarray, units: str) -> None:
        self.rounds = units == "HU" or source.dtype.kind in "iu" or bool(np.all(source == np.rint(source)))

    def slab(self, volume: np.ndarray, step: float = 0.0) -> Slab:
        """The volume's slices as they are kept; rounded to multiples of `step` where it is not 0."""
        if step:
            return lambda part: (np.rint(volume[:, :, part] / step) * step).astype(np.float32)
        if not self.rounds or volume.dtype.kind in "iu":
            return lambda part: volume[:, :, part].astype(np.float32)
        return lambda part: np.rint(volume[:, :, part]).astype(np.float32)

    def dtype(self, low: float, high: float) -> np.dtype:
        """What holds values from `low` to `high`; float32 where one is not finite."""
        fits = self.rounds and np.iinfo(_WHOLE).min <= low - 1 and high + 1 <= np.iinfo(_WHOLE).max
        return _WHOLE if fits else _FLOAT

    def fitting_step(self, width: float, size: Callable[[float], int], budget: float) -> float:
        """The finest step at which a volume takes no more than `budget` bytes; 0 where it needs none.

        Args:
            width: of the window that it is shown in: no step is coarser than an eighth of it.
            size: the bytes that the volume takes in such steps.
            budget: bytes.
        """
        step, coarser = 0.0, 2.0 if self.rounds else 2.0 ** math.floor(math.log2(width) - 12)
        while size(step) > budget and coarser <= width / 8:
            step, coarser = coarser, 2 * coarser
        return step


def ends(volume: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value."""
    return float(volume.min()), float(volume.max())


def error_limit(volumes: AtlasVolumes) -> float:
    """A round number that holds nearly all errors of the worst layer: the end of one scale for all layers."""
    source = sample(volumes.source)
    worst = (np.abs(sample(result) - source) for result in volumes.reconstructions.values())
    return round_up(max(percentile(errors) for errors in worst))


def map_limit(maps: Iterable[np.ndarray]) -> float:
    """The same for maps that are zero in most places: it holds nearly all other values of the worst."""
    parts = (sample(values) for values in maps)
    return round_up(max((percentile(part[part > 0]) for part in parts), default=0.0))


def sample(volume: np.ndarray) -> np.ndarray:
    """Every n-th voxel along each axis, about a million of them, as float32."""
    step = max(1, math.ceil((volume.size / _SAMPLES) ** (1 / 3)))
    return volume[::step, ::step, ::step].astype(np.float32)


def percentile(values: np.ndarray) -> float:
    """What nearly all finite values stay below; 0 without any."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, _SHARE)) if finite.size else 0.0


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * 0.999)
