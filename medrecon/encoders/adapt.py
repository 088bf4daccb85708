"""What a network's weights expect of intensities, as modules: from [0, 1] to it, with gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from medrecon.errors import ModelError
from medrecon.intensity_range import HU_WINDOW

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green, blue in [0, 1]: torchvision's and most of timm's weights."""

CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))
"""The same for the original VGG weights: 0..255 less the mean colour."""


class Hounsfield(nn.Module):
    """[0, 1] back to HU: 0 is -1024 HU, 1 is 3071 HU (`medrecon.intensity_range.HU_WINDOW`)."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) in HU."""
        low, high = HU_WINDOW
        return image * (high - low) + low


class Rescale(nn.Module):
    """A linear map that takes `source` to `target`, as MONAI's ScaleIntensityRange.

    Args:
        source: two values of the image.
        target: what they become.
        clip: cut what lies beyond `target`; its gradient is then zero.
    """

    def __init__(
        self, source: Sequence[float], target: Sequence[float] = (0.0, 1.0), clip: bool = False
    ) -> None:
        super().__init__()
        self.source = _range(source)
        self.target = _range(target)
        self.clip = clip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial), mapped."""
        (a, b), (c, d) = self.source, self.target
        mapped = (image - a) / (b - a) * (d - c) + c
        return mapped.clamp(min(c, d), max(c, d)) if self.clip else mapped


class Clip(nn.Module):
    """Cut values below `low` and above `high`; None leaves that side open."""

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial), clipped."""
        return image if self.low is None and self.high is None else image.clamp(self.low, self.high)


class ChannelMeanStd(nn.Module):
    """(x - mean) / std for each channel; a grey image is repeated for it.

    Args:
        mean: of each channel, in the units of the image.
        std: the same.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or not all(s > 0 for s in std):
            raise ModelError(
                f"mean {list(mean)} and std {list(std)} do not normalise an image",
                remedy="give one mean and one positive std for each channel",
            )
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32), persistent=False)

    def suit(self, channels: int) -> str:
        """Suit a network of so many channels; what must be said of it, "" for nothing.

        Raises:
            ModelError: it has neither one mean, nor one for each, nor is there one channel.
        """
        count = len(self.mean)
        if count in (1, channels):
            return ""
        if channels != 1:
            raise ModelError(
                f"{count} means do not suit a network of {channels} channels",
                remedy="give one mean and one std for each channel: "
                '{"_intensity_": {"mean": [...], "std": [...]}}',
            )
        self.mean, self.std = self.mean.mean(0, keepdim=True), self.std.mean(0, keepdim=True)
        return f"the network takes one channel: it gets the mean of the {count} means of its normalisation"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, channels, *spatial) of an image (B, 1 or channels, *spatial)."""
        shape = (1, -1, *(1,) * (image.ndim - 2))
        return (image - self.mean.view(shape)) / self.std.view(shape)


class Statistic(ABC, nn.Module):
    """Base of maps that need statistics of the whole image.

    They are taken from the image at hand, each of a batch by itself, or from one that was held before: see
    `TappedEncoder.conditioned_on`.

    Args:
        channel_wise: take them from each channel by itself.
    """

    def __init__(self, channel_wise: bool = False) -> None:
        super().__init__()
        self.channel_wise = channel_wise
        self._holding = False
        self._held: tuple[torch.Tensor, ...] | None = None

    @abstractmethod
    def statistics(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the map needs, each (B, C or 1, *ones)."""

    @abstractmethod
    def apply_to(self, image: torch.Tensor, *statistics: torch.Tensor) -> torch.Tensor:
        """The image, mapped by these statistics."""

    def hold(self) -> None:
        """Keep the statistics of the next image for all that follow."""
        self._holding, self._held = True, None

    @property
    def held(self) -> bool:
        """Whether statistics are kept from one image to the next."""
        return self._holding

    def release(self) -> None:
        """Take them from each image again."""
        self._holding, self._held = False, None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial), mapped."""
        found = self._held
        if found is None:
            found = self.statistics(image)
        if self._holding:
            self._held = found
        return self.apply_to(image, *(each.to(image) for each in found))

    def _flat(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C or 1, values)."""
        return image.flatten(2) if self.channel_wise else image.flatten(1)[:, None]


class ZScore(Statistic):
    """(x - mean) / standard deviation (population's), as MONAI's NormalizeIntensity.

    Args:
        nonzero: leave zeros alone and out of the statistics.
        channel_wise: each channel by itself.
    """

    def __init__(self, nonzero: bool = False, channel_wise: bool = False) -> None:
        super().__init__(channel_wise)
        self.nonzero = nonzero

    def statistics(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Mean and standard deviation; the latter 1 where the image is constant."""
        flat = self._flat(image)
        there = flat != 0 if self.nonzero else torch.ones_like(flat, dtype=torch.bool)
        count = there.sum(2, keepdim=True).clamp(min=1)
        mean = (flat * there).sum(2, keepdim=True) / count
        variance = ((flat - mean).square() * there).sum(2, keepdim=True) / count
        std = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
        shape = (*mean.shape[:2], *(1,) * (image.ndim - 2))
        return mean.view(shape), std.view(shape)

    def apply_to(self, image: torch.Tensor, *statistics: torch.Tensor) -> torch.Tensor:
        """The image at mean 0 and standard deviation 1."""
        mean, std = statistics
        scaled = (image - mean) / std
        return torch.where(image != 0, scaled, image) if self.nonzero else scaled


class Percentiles(Statistic):
    """A linear map that takes two percentiles of the image to `target`, as MONAI's ...RangePercentiles.

    Args:
        lower: the percentile that becomes the low end; 0 is the minimum.
        upper: the percentile that becomes the high end; 100 is the maximum.
        target: both ends; None leaves the values as they are (to clip alone).
        clip: cut what lies beyond.
        channel_wise: each channel by itself.
    """

    def __init__(
        self,
        lower: float = 0.0,
        upper: float = 100.0,
        target: Sequence[float] | None = (0.0, 1.0),
        clip: bool = False,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(channel_wise)
        if not 0 <= lower < upper <= 100:
            raise ModelError(f"percentiles {lower} to {upper}", remedy="let them rise within 0 to 100")
        self.lower, self.upper = float(lower), float(upper)
        self.target = None if target is None else _range(target)
        self.clip = clip

    def statistics(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Both percentiles, interpolated linearly between the sorted values."""
        ordered = self._flat(image).sort(dim=2).values
        last = ordered.shape[2] - 1
        found = []
        for percentile in (self.lower, self.upper):
            place = percentile / 100 * last
            below = int(place)
            above = min(below + 1, last)
            value = ordered[:, :, below].lerp(ordered[:, :, above], place - below)
            found.append(value.view(*value.shape, *(1,) * (image.ndim - 2)))
        return tuple(found)

    def apply_to(self, image: torch.Tensor, *statistics: torch.Tensor) -> torch.Tensor:
        """The image, mapped; one without a range becomes the low end, as in MONAI."""
        low, high = statistics
        if self.target is None:
            return torch.minimum(torch.maximum(image, low), high) if self.clip else image
        c, d = self.target
        span = torch.where(high > low, high - low, torch.ones_like(low))
        mapped = (image - low) / span * (d - c) + c
        return mapped.clamp(min(c, d), max(c, d)) if self.clip else mapped


def intensity_map(wanted: Any) -> nn.Module | None:
    """An intensity map by a short description, such as JSON can hold.

    Args:
        wanted: None, a module, "none", "imagenet", "caffe", "zscore", "zscore_nonzero", "minmax", or a
            mapping: {"hu": [low, high], "to": [0, 1], "clip": true}; {"percentiles": [1, 99], "to": [0, 1],
            "clip": true}; {"mean": [...], "std": [...]}.

    Raises:
        ModelError: another description.
    """
    if wanted is None or isinstance(wanted, nn.Module):
        return wanted
    by_name: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "imagenet": lambda: ChannelMeanStd(*IMAGENET),
        "caffe": lambda: ChannelMeanStd(*CAFFE),
        "zscore": ZScore,
        "zscore_nonzero": lambda: ZScore(nonzero=True),
        "minmax": Percentiles,
    }
    if isinstance(wanted, str) and wanted in by_name:
        return by_name[wanted]()
    try:
        return _by_mapping(dict(wanted))
    except (TypeError, ValueError, KeyError):
        raise ModelError(
            f"there is no intensity map {wanted!r}",
            remedy=f'use {", ".join(by_name)}, {{"hu": [low, high]}}, {{"percentiles": [low, high]}} or '
            '{"mean": [...], "std": [...]}',
        ) from None


def _by_mapping(wanted: dict[str, Any]) -> nn.Module:
    if "mean" in wanted:
        return ChannelMeanStd(**wanted)
    clip, target = bool(wanted.pop("clip", True)), wanted.pop("to", (0.0, 1.0))
    [(kind, ends)] = wanted.items()
    if kind == "hu":
        return nn.Sequential(Hounsfield(), Rescale(ends, target, clip))
    if kind != "percentiles":
        raise KeyError(kind)
    lower, upper = ends
    return Percentiles(lower, upper, target, clip)


def _range(ends: Sequence[float]) -> tuple[float, float]:
    low, high = (float(end) for end in ends)
    if low == high:
        raise ModelError(f"a range from {low} to {high} holds nothing", remedy="give two different ends")
    return low, high
