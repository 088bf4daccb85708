"""A bundle's preprocessing, sorted: the grid stays MONAI's, intensities become modules with gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai.transforms import Compose, InvertibleTransform, MapTransform, ScaleIntensityRanged, Transform
from torch import nn

from medrecon.encoders.adapt import Clip, Hounsfield, Percentiles, Rescale, ZScore
from medrecon.errors import ModelError

GEOMETRY = (
    *("Orientationd", "Spacingd", "Resized", "Zoomd", "Flipd", "Rotate90d", "Transposed"),
    *("SpatialPadd", "BorderPadd", "DivisiblePadd", "ResizeWithPadOrCropd", "CenterSpatialCropd"),
    *("SpatialCropd", "CropForegroundd", "SpatialResampled"),
)
"""Transforms of the grid, kept as they are: MONAI's Invertd undoes them."""

NEUTRAL = (
    *("LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced"),
    *("Identityd", "SelectItemsd", "DeleteItemsd", "ScanIntensityd"),
)
"""Transforms that change neither grid nor values, and ours, whose result is what an encoder gets."""


class Preprocessing:
    """A bundle's preprocessing, sorted into the grid and the intensities.

    Args:
        root: the bundle, for messages.
        modality: what its metadata says its images are.
        wanted: whether its intensity maps are used.
    """

    def __init__(self, root: Path, modality: str, wanted: bool = True) -> None:
        self.root = root
        self.modality = modality
        self.wanted = wanted
        self.geometry: list[Any] = []
        self.notes: list[str] = []
        self._maps: list[nn.Module] = []
        self._absolute = False

    def take(self, step: Any) -> None:
        """Sort one transform in.

        Raises:
            ModelError: it can neither be kept nor be translated.
        """
        name = type(step).__name__
        keys = [str(key) for key in step.keys] if isinstance(step, MapTransform) else []
        if keys and "image" not in keys:
            return
        if name in GEOMETRY and isinstance(step, InvertibleTransform):
            if self._maps:
                self.notes.append(f"{name} runs before the intensity maps here, after them in the bundle")
            kept: Any = step
            kept.keys = ("image",)
            self.geometry.append(kept)
        elif name in INTENSITIES:
            self._maps.append(INTENSITIES[name](step))
            absolute = name in ("ScaleIntensityRanged", "ThresholdIntensityd")
            first = not any(not isinstance(m, Clip) for m in self._maps[:-1])
            if absolute and first:
                self._check_units(name, step)
        elif name not in NEUTRAL:
            raise ModelError(
                f"its preprocessing has {name}, which cannot be honoured",
                path=self.root,
                remedy="give the network's class and weights instead, and the intensity map it expects",
            )

    def intensity(self) -> nn.Module | None:
        """The intensity maps as one module, from [0, 1]."""
        if not self._maps:
            return None
        start = [Hounsfield()] if self._absolute or self.modality == "CT" else []
        return nn.Sequential(*start, *self._maps)

    def _check_units(self, name: str, step: Any) -> None:
        """Absolute values mean something in HU alone: the scale of all other scans is lost in [0, 1]."""
        low = step.scaler.a_min if isinstance(step, ScaleIntensityRanged) else None
        if self.modality == "CT" or (not self.modality and low is not None and low < 0):
            self._absolute = True
        elif self.wanted:
            raise ModelError(
                f"its {name} names absolute intensities of {self.modality or 'an unknown modality'}, which "
                "only CT has",
                path=self.root,
                remedy='give the intensity map yourself, such as {"_intensity_": "zscore"}',
            )


def _normalize(step: Any) -> nn.Module:
    inner = step.normalizer
    if inner.subtrahend is None and inner.divisor is None:
        return ZScore(inner.nonzero, inner.channel_wise)
    mean = 0.0 if inner.subtrahend is None else inner.subtrahend
    std = 1.0 if inner.divisor is None else inner.divisor
    if inner.nonzero or not all(isinstance(value, int | float) for value in (mean, std)):
        raise ModelError(
            "its NormalizeIntensityd has fixed values for each channel or leaves zeros out",
            remedy='give the intensity map yourself, such as {"_intensity_": {"mean": [...], "std": [...]}}',
        )
    return Rescale((mean, mean + std), (0.0, 1.0))


def _range_of(step: Any) -> nn.Module:
    inner = step.scaler
    target = (0.0, 1.0) if inner.b_min is None or inner.b_max is None else (inner.b_min, inner.b_max)
    if inner.b_min is None or inner.b_max is None:
        return Rescale((inner.a_min, inner.a_max), target)  # MONAI neither scales nor clips further
    return Rescale((inner.a_min, inner.a_max), target, inner.clip)


def _percentiles_of(step: Any) -> nn.Module:
    inner = step.scaler
    if inner.relative:
        raise ModelError(
            "its ScaleIntensityRangePercentilesd is relative", remedy="give the intensity map yourself"
        )
    target = None if inner.b_min is None or inner.b_max is None else (inner.b_min, inner.b_max)
    return Percentiles(inner.lower, inner.upper, target or (0.0, 1.0), inner.clip, inner.channel_wise)


def _min_max(step: Any) -> nn.Module:
    inner = step.scaler
    if inner.factor is not None or inner.minv is None or inner.maxv is None:
        raise ModelError("its ScaleIntensityd scales by a factor", remedy="give the intensity map yourself")
    return Percentiles(0, 100, (inner.minv, inner.maxv), channel_wise=inner.channel_wise)


def _clip_percentiles(step: Any) -> nn.Module:
    inner = step.scaler
    if inner.lower is None or inner.upper is None or inner.sharpness_factor is not None:
        raise ModelError(
            "its ClipIntensityPercentilesd is soft or one-sided", remedy="give the intensity map yourself"
        )
    return Percentiles(inner.lower, inner.upper, None, True, inner.channel_wise)


def _threshold(step: Any) -> nn.Module:
    inner = step.filter
    if inner.cval != inner.threshold:
        raise ModelError("its ThresholdIntensityd is no clipping", remedy="give the intensity map yourself")
    return Clip(low=inner.threshold) if inner.above else Clip(high=inner.threshold)


INTENSITIES: dict[str, Callable[[Any], nn.Module]] = {
    "ScaleIntensityRanged": _range_of,
    "ScaleIntensityRangePercentilesd": _percentiles_of,
    "ScaleIntensityd": _min_max,
    "NormalizeIntensityd": _normalize,
    "ClipIntensityPercentilesd": _clip_percentiles,
    "ThresholdIntensityd": _threshold,
}
"""MONAI's intensity transforms and how each becomes a module."""


def steps_of(transform: Any) -> list[Any]:
    """The transforms of nested Composes in their order."""
    if transform is None:
        return []
    if isinstance(transform, Compose):
        return [step for inner in transform.transforms for step in steps_of(inner)]
    if isinstance(transform, list | tuple):
        return [step for inner in transform for step in steps_of(inner)]
    return [transform] if isinstance(transform, Transform) or callable(transform) else []
