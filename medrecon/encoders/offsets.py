"""Where the positions of a layer lie in its image, measured: a network's own stride is not enough to say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.evened import Straight, even_copy
from medrecon.encoders.frozen import Frozen

_BASE, _STEP = 1.0, 0.5
"""The even image, and how far it is changed: what is left of a network is linear, or a product of two."""

_POSITIONS, _MORE_POSITIONS = 2, 12
"""Of the coarsest layer, along the axis that is measured, where the image may be of any size."""

_MOST = 512
_MOST_PERIOD = 32
_FLOOR = 0.5
"""Share of the strongest dependence that counts: beside a way down and up again, the short one."""

_ALIKE, _SAME = 3, 1e-3
"""Positions that are looked at where they lie alike, and by how many voxels they may differ then."""

_EVEN, _SURE, _NEAR = 0.1, 0.02, 0.2
"""Voxels: how unevenly positions may lie about a common centre; how far that may lie from a half voxel and
still be one; and the same of a centre by its gradient."""

_OWN = (0.2, 1.02)
"""Share of its place in what a position sees; the rest is the same for all, as a mean over the image is."""

JOINED = "ways through the network that lie apart are joined in it: where it lies is true to some voxels"
UNKNOWN = "no centre of its positions was found: the middle of their blocks is taken"


@dataclass(frozen=True)
class Place:
    """Where a layer lies.

    Attributes:
        offset: the voxel, counted from the first one's centre, at which the first position is centred.
        doubt: why that may not be so; "" where it is measured.
    """

    offset: tuple[float, ...]
    doubt: str = ""


def measure_offsets(encoder: Encoder, layers: Sequence[LayerInfo]) -> dict[str, Place]:
    """The place of the first position of each layer, in voxels of the network's image.

    Position i of a layer of stride s lies at offset + s * i along each axis. A convolution of kernel 3 and
    stride 2, padded by 1, has offset 0; pooling over 2 has 0.5; patches of 16 have 7.5.

    It is the centre of what a position depends on: the mean of the voxels' places, weighted by their
    influence, in a copy of the network that weighs evenly (`medrecon.encoders.evened`). There the places
    themselves are sent through the network, and every position gives its own. Where they lie about one
    centre, that is exact, in an image of any size. Where ways of different centres join, as a decoder's and
    a skip connection's may, it is the centre of the shortest, as far as a gradient tells it.

    Args:
        encoder: whose layers; it is copied, and stays as it is.
        layers: out of `encoder.layers()`.
    """
    middles = {info.name: tuple((step - 1) / 2 for step in info.stride) for info in layers}
    if not isinstance(encoder.unwrapped, Frozen):
        # the own networks: made of blocks, which transforms without a kernel fill unevenly
        return {name: Place(offset) for name, offset in middles.items()}
    even = even_copy(encoder)
    if even is None:
        return {name: Place(offset, UNKNOWN) for name, offset in middles.items()}
    whole = {info.name for info in layers if info.stride == encoder.window}
    found = {name: Place(middles[name]) for name in whole}  # one position, which sees all
    rest = [info for info in layers if info.name not in whole]
    by_axis = [_along(even, rest, axis) for axis in range(encoder.spatial_dims)] if rest else []
    for info in rest:
        offset, doubts = list(middles[info.name]), set()
        for axis, values in enumerate(by_axis):
            value, doubt = values.get(info.name, (offset[axis], UNKNOWN))
            offset[axis] = value
            doubts.add(doubt)
        found[info.name] = Place(tuple(offset), max(doubts, key=("", JOINED, UNKNOWN).index))
    return {info.name: found[info.name] for info in layers}


def doubts(places: Mapping[str, Place]) -> list[str]:
    """What must be said of the places of layers, one line each."""
    return [f"{name}: {place.doubt}" for name, place in places.items() if place.doubt]


def _along(encoder: Encoder, layers: Sequence[LayerInfo], axis: int) -> dict[str, tuple[float, str]]:
    """Offsets along one axis and what is doubtful of them, as far as they are found."""
    found: dict[str, tuple[float, str]] = {}
    mixed: dict[str, float] = {}
    for gates in (True, False):
        missing = [info for info in layers if info.name not in found]
        for info, places, length in _places(encoder, missing, axis, gates) if missing else ():
            value, common = _common(places, length, info.stride[axis], _period(encoder, info, axis))
            if common:
                found[info.name] = value, ""
            elif math.isfinite(value):
                mixed.setdefault(info.name, value)
    missing = [info for info in layers if info.name not in found]
    if missing:
        gradients = _by_gradients(encoder, missing, axis)
        for name, value in (mixed | gradients).items():
            found[name] = value, JOINED
    return found


def _places(
    encoder: Encoder, layers: Sequence[LayerInfo], axis: int, gates: bool
) -> Iterator[tuple[LayerInfo, list[float], int]]:
    """Each layer, where its positions lie along an axis, in voxels, and the voxels of the image."""
    names = [info.name for info in layers]
    for size in _sizes(encoder, layers, axis, _POSITIONS):
        length = size[axis]
        along = (2 * torch.arange(length, dtype=torch.float32) - (length - 1)) / length
        image = torch.ones(1, _channels(encoder), *size)
        ramp = image * along.view(*(-1 if k == axis else 1 for k in range(len(size))))
        changes: list[Features] = []
        try:
            with encoder.conditioned_on(_BASE * image), Straight(gates), torch.no_grad():
                for change in (image, ramp):
                    up = encoder(_BASE * image + _STEP * change, names)
                    down = encoder(_BASE * image - _STEP * change, names)
                    changes.append({name: (up[name] - down[name])[0].double() for name in names})
        except Exception:  # it takes another size, or none of these images, or memory is too small
            continue
        for info in layers:
            share, moved = (change[info.name] for change in changes)
            others = [k for k in range(share.ndim) if k != axis + 1]
            places = (share.sign() * moved).sum(others) / share.abs().sum(others)
            yield info, ((places * length + length - 1) / 2).tolist(), length
        return


def _common(places: Sequence[float], length: int, stride: int, period: int) -> tuple[float, bool]:
    """Where the first position lies, and whether all lie about one centre; not a number where none is seen.

    Positions made of one coarser position lie at its place, `period` of them. What each sees of all the image
    draws its place to the middle, by the same share.
    """
    count, origin = len(places), (length - 1) / 2
    blocks = count // min(period, count)
    share = 1.0
    if blocks > 1:
        means = [sum(places[k * period : (k + 1) * period]) / period for k in range(blocks)]
        share = (means[-1] - means[0]) / (stride * period * (blocks - 1))
    if not _OWN[0] < share < _OWN[1]:
        return math.nan, False
    starts = [origin + (place - origin) / share - stride * k for k, place in enumerate(places)]
    mean = sum(starts) / count
    even = all(abs((a + b) / 2 - mean) < _EVEN for a, b in zip(starts, starts[::-1], strict=True))
    nearest = round(2 * mean) / 2  # of centres; a mean of several lies elsewhere
    return nearest, even and abs(mean - nearest) < _SURE


def _by_gradients(encoder: Encoder, layers: Sequence[LayerInfo], axis: int) -> dict[str, float]:
    """Offsets along one axis, of the layers whose positions in the middle have a clear strongest place."""
    names = [info.name for info in layers]
    for size in _sizes(encoder, layers, axis, _MORE_POSITIONS):
        image = torch.full((1, _channels(encoder), *size), _BASE, requires_grad=True)
        found: dict[str, float | None] = {}
        try:
            with encoder.conditioned_on(image.detach()), Straight(), torch.enable_grad():
                features = encoder(image, names)
                for info in layers:  # within, for what is computed once more on the way back
                    period = _period(encoder, info, axis)
                    found[info.name] = _strongest(features[info.name], image, info.stride[axis], axis, period)
        except Exception:
            continue
        return {name: value for name, value in found.items() if value is not None}
    return {}


def _sizes(encoder: Encoder, layers: Sequence[LayerInfo], axis: int, positions: int) -> Iterator[list[int]]:
    """Images worth trying: a long thin one, and the network's window."""
    dims = encoder.spatial_dims
    multiple = encoder.multiple or (1,) * dims
    steps = [math.lcm(multiple[k], *(info.stride[k] for info in layers)) for k in range(dims)]
    size = [step * math.ceil((64 if dims == 2 else 16) / step) for step in steps]
    size[axis] = max(size[axis], min(positions * steps[axis], _MOST // steps[axis] * steps[axis]))
    yield size
    if encoder.window is not None:
        yield list(encoder.window)


def _channels(encoder: Encoder) -> int:
    return len(encoder.channel_names) if encoder.channels_needed else 1


def _period(encoder: Encoder, layer: LayerInfo, axis: int) -> int:
    """Positions after which a layer may repeat itself: what is made of one coarser position lies about it."""
    coarsest = max(info.stride[axis] for info in encoder.layers())
    if encoder.multiple:
        coarsest = max(coarsest, encoder.multiple[axis])
    return max(1, min(_MOST_PERIOD, coarsest // layer.stride[axis]))


def _strongest(
    features: torch.Tensor, image: torch.Tensor, stride: int, axis: int, period: int
) -> float | None:
    """The mean over as many positions in the middle as repeat themselves; None where it is not clear."""
    count = features.shape[2 + axis]
    if count < 2 or stride * count > 2 * image.shape[2 + axis] or not features.requires_grad:
        return None
    width = min(period, count // 2)
    first = (count // 2) // width * width
    found: list[float] = []
    # neighbours that agree with one half a period on are no parts of a coarser position: all are alike
    for place in dict.fromkeys([0, width // 2, *range(width)]):
        centre = _centre(features, image, first + place, axis)
        if centre is None:
            return None
        found.append(centre - stride * (first + place))
        if len(found) == min(_ALIKE, width) and max(found) - min(found) < _SAME:
            break
    mean = sum(found) / len(found)
    nearest = round(2 * mean) / 2
    return nearest if abs(mean - nearest) < _NEAR else None


def _centre(features: torch.Tensor, image: torch.Tensor, place: int, axis: int) -> float | None:
    """The voxel that a position's features depend on, on average; None where that is nothing, or cut off."""
    index: list[int | slice] = [0, slice(None), *(n // 2 for n in features.shape[2:])]
    index[2 + axis] = place
    target = features[tuple(index)].sum()
    # `torch.autograd.grad` leaves the mode that it is called in, and with it what is computed once more
    run = torch.autograd.Variable._execution_engine.run_backward
    (slope,) = run((target,), (torch.ones_like(target),), True, False, (image,), allow_unreachable=True)
    if slope is None:
        return None
    along = slope[0].sum(0).abs().sum([k for k in range(image.ndim - 2) if k != axis]).double()
    along = along - along.median()
    along = torch.where(along > _FLOOR * along.max(), along, 0)
    if not float(along.sum()) > 0 or not bool(torch.isfinite(along).all()):
        return None
    if float(along[0]) > 0 or float(along[-1]) > 0:  # the image ends before what is seen does
        return None
    voxels = torch.arange(len(along), dtype=torch.float64, device=along.device)
    return float((along * voxels).sum() / along.sum())
