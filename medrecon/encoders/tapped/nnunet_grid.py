"""What nnU-Net does to a scan before its network, and back: axes, crop, normalisation, spacing, patch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.inverse import InvertibleTransform
from monai.utils import TraceKeys
from scipy import ndimage
from torch import nn

from medrecon.encoders.adapt import Clip, Hounsfield, Rescale, ZScore
from medrecon.encoders.tapped.plans import Rule

_ANISOTROPIC = 3.0
"""Ratio of spacings above which slices are resampled one by one (nnU-Net's ANISO_THRESHOLD)."""

_LEAST = 1e-8
_AFTER = "intensities are normalised after the scan is resampled, which nnU-Net does before it"


class PlansGrid(MapTransform, InvertibleTransform):
    """A scan as a network of nnU-Net takes it, and a result of it back, for the key `image`.

    As nnU-Net's DefaultPreprocessor: axes as in the plans, crop to what is not zero, normalise, resample by
    splines; then zeros around it where it is smaller than the patch. A network of slices gets them along the
    last axis. Files are taken as they lie; of a DICOM series the rows are turned, as dcm2niix writes it.

    Args:
        rule: of the configuration.
        normalise: False leaves the intensities as they are.
    """

    def __init__(self, rule: Rule, normalise: bool = True) -> None:
        MapTransform.__init__(self, ("image",))
        self.rule, self.normalise = rule, normalise

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(C, X, Y, Z) in stored units -> (C, *axes) in units of the normalisation, float32."""
        item = dict(data)
        source: MetaTensor = item["image"]
        turned = bool(source.meta.get("series_uid"))
        axes = tuple(2 - axis for axis in self.rule.axes)  # nnU-Net counts (slices, rows, columns)
        values = source.as_tensor().float().numpy()
        values = values[:, :, ::-1] if turned else values
        values = values.transpose(0, *(axis + 1 for axis in axes))
        spacing = np.linalg.norm(np.asarray(source.affine)[:3, :3], axis=0)[list(axes)]
        there = ndimage.binary_fill_holes((values != 0).any(0))
        box = _box(there)
        cut, mask = values[(slice(None), *box)].copy(), there[box]
        levels = [self._normalise(cut[k], mask, k) if self.normalise else (0.0, 1.0) for k in range(len(cut))]
        wanted = self._spacing(spacing)
        shape = [round(a / b * n) for a, b, n in zip(spacing, wanted, cut.shape[1:], strict=True)]
        apart = self._apart(spacing, wanted)
        made = resample(cut, shape, self.rule.order, self.rule.order_between, apart)
        pads = self._pads(made.shape[1:])
        made = np.pad(made, [(0, 0), *pads])
        trace = {
            "turned": turned,
            "axes": axes,
            "whole": values.shape[1:],
            "box": [(side.start, side.stop) for side in box],
            "apart": -1 if apart is None else apart,
            "pads": pads,
            "levels": levels,
            "affine": np.asarray(source.affine).tolist(),
        }
        last = (1, 2, 0) if self.rule.flat else (0, 1, 2)
        out = MetaTensor(torch.from_numpy(made.transpose(0, *(axis + 1 for axis in last)).copy()))
        out = out.copy_meta_from(source)
        out.affine = _placed(np.asarray(source.affine), source.shape[1:], trace, shape, last)
        self.push_transform(out, extra_info=trace, orig_size=tuple(source.shape[1:]))
        item["image"] = out
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A result on that grid, on the grid and in the units of the scan; zero where it was cropped."""
        item = dict(data)
        image: MetaTensor = item["image"]
        trace = self.pop_transform(image)[TraceKeys.EXTRA_INFO]
        values = image.as_tensor().double().cpu().numpy()
        if self.rule.flat:
            values = values.transpose(0, 3, 1, 2)
        inner = [slice(low, n - high) for n, (low, high) in zip(values.shape[1:], trace["pads"], strict=True)]
        values = values[(slice(None), *inner)]
        box = tuple(slice(*side) for side in trace["box"])
        apart = None if trace["apart"] < 0 else trace["apart"]
        shape = [side.stop - side.start for side in box]
        values = resample(values, shape, self.rule.order, self.rule.order_between, apart)
        whole = np.zeros((len(values), *trace["whole"]))
        for k, part in enumerate(values):
            offset, factor = trace["levels"][min(k, len(trace["levels"]) - 1)]
            whole[k][box] = part * factor + offset
        back = whole.transpose(0, *(1 + trace["axes"].index(axis) for axis in range(3)))
        back = back[:, :, ::-1] if trace["turned"] else back
        out = MetaTensor(torch.from_numpy(back.copy())).copy_meta_from(image)
        out.affine = torch.tensor(trace["affine"], dtype=torch.float64)
        item["image"] = out
        return item

    def _normalise(self, values: np.ndarray, mask: np.ndarray, channel: int) -> tuple[float, float]:
        """Normalise a channel in place; what it takes to undo that: an offset and a factor."""
        scheme = self.rule.schemes[min(channel, len(self.rule.schemes) - 1)]
        if scheme == "ZScoreNormalization":
            chosen = mask if self.rule.masked[channel] else np.ones_like(mask)
            mean, std = values[chosen].mean(), max(values[chosen].std(), _LEAST)
            values[chosen] = (values[chosen] - mean) / std
            return float(mean), float(std)
        known = self.rule.intensities[channel]
        if scheme == "CTNormalization":
            np.clip(values, known["percentile_00_5"], known["percentile_99_5"], out=values)
            values -= known["mean"]
            values /= max(known["std"], _LEAST)
            return float(known["mean"]), float(max(known["std"], _LEAST))
        if scheme == "RescaleTo01Normalization":
            low = values.min()
            values -= low
            high = max(float(values.max()), _LEAST)
            values /= high
            return float(low), high
        factor = 255.0 if scheme == "RGBTo01Normalization" else 1.0
        values /= factor
        return 0.0, factor

    def _spacing(self, spacing: np.ndarray) -> np.ndarray:
        own = self.rule.spacing
        return np.array(own if len(own) == 3 else (spacing[0], *own))

    def _apart(self, spacing: np.ndarray, wanted: np.ndarray) -> int | None:
        """The axis along which slices are resampled one by one, if they are."""
        if self.rule.separately is False:
            return None
        for each in (spacing, wanted):
            if self.rule.separately or each.max() / each.min() > _ANISOTROPIC:
                coarsest = np.flatnonzero(each == each.max())
                return int(coarsest[0]) if len(coarsest) == 1 else None
        return None

    def _pads(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        least = (1, *self.rule.patch) if self.rule.flat else self.rule.patch
        missing = [max(0, want - n) for n, want in zip(shape, least, strict=True)]
        return [(m // 2, m // 2 + m % 2) for m in missing]


def resample(
    values: np.ndarray, shape: Sequence[int], order: int, order_between: int, apart: int | None
) -> np.ndarray:
    """Channels (C, *spatial) on a grid of another shape over the same space, by splines.

    Args:
        values: float.
        shape: the new one.
        order: of the spline.
        order_between: of that along `apart`.
        apart: the axis along which slices are resampled one by one; None: all axes at once.
    """
    if tuple(values.shape[1:]) == tuple(shape):
        return values
    made = np.zeros((len(values), *shape), dtype=values.dtype)
    for k, channel in enumerate(values.astype(np.float64)):
        if apart is None:
            made[k] = _zoom(channel, shape, order)
            continue
        plane = [n for axis, n in enumerate(shape) if axis != apart]
        slices = [_zoom(one, plane, order) for one in np.moveaxis(channel, apart, 0)]
        stack = np.stack(slices, apart)
        if stack.shape[apart] != shape[apart]:
            scales = [have / want for have, want in zip(stack.shape, shape, strict=True)]
            places = [s * (np.arange(n) + 0.5) - 0.5 for s, n in zip(scales, shape, strict=True)]
            grid = np.stack(np.meshgrid(*places, indexing="ij"))
            stack = ndimage.map_coordinates(stack, grid, order=order_between, mode="nearest")
        made[k] = stack
    return made


def _zoom(image: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """An image at another size, within its own range: splines overshoot."""
    factors = [want / have for want, have in zip(shape, image.shape, strict=True)]
    made: np.ndarray = ndimage.zoom(image, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(made, image.min(), image.max())


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around what is there; all where nothing is."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else tuple(slice(0, n) for n in mask.shape)


def _placed(
    affine: np.ndarray,
    sides: Sequence[int],
    trace: Mapping[str, Any],
    shape: Sequence[int],
    last: Sequence[int],
) -> np.ndarray:
    """Index on the new grid -> RAS mm."""
    to_source = np.zeros((4, 4))
    to_source[3, 3] = 1
    for place, axis in enumerate(trace["axes"]):
        start, stop = trace["box"][place]
        step = (stop - start) / shape[place]
        first = start + (0.5 - trace["pads"][place][0]) * step - 0.5
        if trace["turned"] and axis == 1:
            step, first = -step, sides[1] - 1 - first
        to_source[axis, last.index(place)] = step
        to_source[axis, 3] = first
    made: np.ndarray = affine @ to_source
    return made


def how_seen(
    rule: Rule, given: nn.Module | None, in_common_scale: bool
) -> tuple[PlansGrid, nn.Module, tuple[float, float] | None, list[str]]:
    """The grid, the intensity map after it, the scale of the encoder, and what must be said."""
    common = _in_common_scale(rule) if given is None and in_common_scale else given
    if common is not None:
        return PlansGrid(rule, normalise=False), common, None, [_AFTER]
    scale = _scale_of(rule)
    return PlansGrid(rule), Rescale((0.0, 1.0), scale), scale, []


def _in_common_scale(rule: Rule) -> nn.Module | None:
    """The normalisation of images in the scale of every scan; None where that cannot be told from them."""
    if set(rule.schemes) == {"CTNormalization"} and len(rule.schemes) == 1:
        known = rule.intensities[0]
        mean, deviation = known["mean"], max(known["std"], _LEAST)
        cut = Clip(known["percentile_00_5"], known["percentile_99_5"])
        return nn.Sequential(Hounsfield(), cut, Rescale((mean, mean + deviation)))
    if set(rule.schemes) == {"ZScoreNormalization"} and not any(rule.masked):
        return ZScore(channel_wise=True)
    return None


def _scale_of(rule: Rule) -> tuple[float, float]:
    """Values of the normalisation that are 0 and 1 to a network: about the range of its images."""
    ends: dict[str, Callable[[Mapping[str, float]], tuple[float, float]]] = {
        "CTNormalization": lambda known: (
            (known["percentile_00_5"] - known["mean"]) / max(known["std"], _LEAST),
            (known["percentile_99_5"] - known["mean"]) / max(known["std"], _LEAST),
        ),
        "ZScoreNormalization": lambda known: (-3.0, 5.0),
        "RescaleTo01Normalization": lambda known: (0.0, 1.0),
        "RGBTo01Normalization": lambda known: (0.0, 1.0),
        "NoNormalization": lambda known: (known["percentile_00_5"], known["percentile_99_5"]),
    }
    pairs = [ends[name](known) for name, known in zip(rule.schemes, rule.intensities, strict=True)]
    low, high = min(low for low, _ in pairs), max(high for _, high in pairs)
    return (low, high) if low < high else (low, low + 1)
