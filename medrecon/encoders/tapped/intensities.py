"""MONAI's intensity transforms as modules with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from medrecon.encoders.adapt import Clip, Percentiles, Rescale, ZScore
from medrecon.errors import ModelError

_OWN = "say what the network expects of intensities: --encoder-arguments '{\"_intensity_\": %s}'"


def inner_of(step: Any) -> Any:
    """The array transform within a dictionary transform; one that is none is given back."""
    for name in ("scaler", "normalizer", "filter"):
        if name in vars(step):
            return vars(step)[name]
    return step


def _normalize(inner: Any) -> nn.Module:
    if inner.subtrahend is None and inner.divisor is None:
        return ZScore(inner.nonzero, inner.channel_wise)
    mean = 0.0 if inner.subtrahend is None else inner.subtrahend
    std = 1.0 if inner.divisor is None else inner.divisor
    if inner.nonzero or not all(isinstance(value, int | float) for value in (mean, std)):
        raise ModelError(
            "its NormalizeIntensityd has fixed values for each channel or leaves zeros out",
            remedy=_OWN % '{"mean": [...], "std": [...]}',
        )
    return Rescale((mean, mean + std), (0.0, 1.0))


def _range_of(inner: Any) -> nn.Module:
    target = (0.0, 1.0) if inner.b_min is None or inner.b_max is None else (inner.b_min, inner.b_max)
    if inner.b_min is None or inner.b_max is None:
        return Rescale((inner.a_min, inner.a_max), target)  # MONAI neither scales nor clips further
    return Rescale((inner.a_min, inner.a_max), target, inner.clip)


def _percentiles_of(inner: Any) -> nn.Module:
    if inner.relative:
        raise ModelError(
            "its ScaleIntensityRangePercentilesd is relative", remedy=_OWN % '{"percentiles": [1, 99]}'
        )
    target = None if inner.b_min is None or inner.b_max is None else (inner.b_min, inner.b_max)
    return Percentiles(inner.lower, inner.upper, target or (0.0, 1.0), inner.clip, inner.channel_wise)


def _min_max(inner: Any) -> nn.Module:
    if inner.factor is not None or inner.minv is None or inner.maxv is None:
        raise ModelError("its ScaleIntensityd scales by a factor", remedy=_OWN % '"minmax"')
    return Percentiles(0, 100, (inner.minv, inner.maxv), channel_wise=inner.channel_wise)


def _clip_percentiles(inner: Any) -> nn.Module:
    if inner.lower is None or inner.upper is None or inner.sharpness_factor is not None:
        raise ModelError(
            "its ClipIntensityPercentilesd is soft or one-sided", remedy=_OWN % '{"percentiles": [1, 99]}'
        )
    return Percentiles(inner.lower, inner.upper, None, True, inner.channel_wise)


def _threshold(inner: Any) -> nn.Module:
    if inner.cval != inner.threshold:
        raise ModelError("its ThresholdIntensityd is no clipping", remedy=_OWN % '"minmax"')
    return Clip(low=inner.threshold) if inner.above else Clip(high=inner.threshold)


INTENSITIES: dict[str, Callable[[Any], nn.Module]] = {
    "ScaleIntensityRange": _range_of,
    "ScaleIntensityRangePercentiles": _percentiles_of,
    "ScaleIntensity": _min_max,
    "NormalizeIntensity": _normalize,
    "ClipIntensityPercentiles": _clip_percentiles,
    "ThresholdIntensity": _threshold,
}
"""MONAI's intensity transforms and how each becomes a module."""
