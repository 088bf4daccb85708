"""Where the positions of a layer lie in its image, measured: a network's own stride is not enough to say."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medrecon.contract import Encoder, LayerInfo
from medrecon.encoders.frozen import Frozen

Offset = tuple[float, ...]

_POINTWISE = {
    *(
        "batch_norm",
        "instance_norm",
        "layer_norm",
        "group_norm",
        "local_response_norm",
        "rms_norm",
        "normalize",
    ),
    *("relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish"),
    *("sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "softplus", "softsign", "dropout"),
}
_POOLING = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
_MEANS = {"max_pool2d": functional.avg_pool2d, "max_pool3d": functional.avg_pool3d}
_POSITIONS = 12
"""Of a layer, along the axis that is measured, where the image may be of any size."""

_MOST = 512
_MOST_PERIOD = 32
_FLOOR = 0.5
"""Share of the strongest dependence that counts: beside a way down and up again, the short one."""

_ALIKE, _SAME = 3, 1e-3
"""Positions that are looked at where they lie alike, and by how many voxels they may differ then."""

_NEAR = 0.2
"""How far from a half voxel a measurement may lie and still be one."""


def measure_offsets(encoder: Encoder, layers: Sequence[LayerInfo]) -> dict[str, Offset]:
    """The voxel, counted from the first one's centre, at which the first position of each layer is centred.

    Position i of a layer of stride s lies at offset + s * i along each axis. A convolution of kernel 3 and
    stride 2, padded by 1, has offset 0; pooling over 2 has 0.5; patches of 16 have 7.5.

    It is the centre of what a position depends on. That is measured in a copy of the network whose kernels
    hold one number each, without norms, activations and attention to others, and with pooling by means: there
    it is symmetric about the centre of the receptive field, whatever the paths to it, and the centre of
    gravity of one position's gradient is exact. A layer of which no centre is found takes the middle of its
    block, as patches have it.

    Args:
        encoder: whose layers; it is copied, and stays as it is.
        layers: out of `encoder.layers()`.

    Returns:
        Layer -> offset along each axis, in voxels of the network's image.
    """
    nominal = {info.name: tuple((s - 1) / 2 for s in info.stride) for info in layers}
    if not isinstance(encoder.unwrapped, Frozen):
        return nominal  # the own networks: made of blocks, which transforms without a kernel fill unevenly
    even = _even_copy(encoder)
    if even is None:
        return nominal
    found = {info.name: list(nominal[info.name]) for info in layers}
    for axis in range(encoder.spatial_dims):
        for name, value in _along(even, layers, axis).items():
            found[name][axis] = value
    return {name: tuple(values) for name, values in found.items()}


def _even_copy(encoder: Encoder) -> Encoder | None:
    """A copy whose kernels hold one number each, so that nothing weighs more to one side."""
    try:
        even = copy.deepcopy(encoder).float()
    except Exception:  # a network that cannot be copied is not changed instead
        return None
    with torch.no_grad():
        for module in even.modules():
            own = dict(module.named_parameters(recurse=False))
            weight, bias = own.get("weight"), own.get("bias")
            if weight is not None and weight.is_floating_point():
                weight.fill_(1 / max(1, weight[0].numel()))
            if bias is not None and bias.is_floating_point():
                bias.zero_()
    return even


def _along(encoder: Encoder, layers: Sequence[LayerInfo], axis: int) -> dict[str, float]:
    """Offsets along one axis, of the layers where the measurement is clear."""
    size = _size(encoder, layers, axis)
    channels = len(encoder.channel_names) if encoder.channels_needed else 1
    image = torch.full((1, channels, *size), 0.5, requires_grad=True)
    names = [info.name for info in layers]
    try:
        with _Linear(), torch.enable_grad():
            features = encoder(image, names)
    except Exception:  # too large for this memory, or a network that does not run on an even image
        return {}
    found: dict[str, float] = {}
    for info in layers:
        value = _offset(features[info.name], image, info.stride[axis], axis, _period(encoder, info, axis))
        if value is not None:
            found[info.name] = value
    return found


def _size(encoder: Encoder, layers: Sequence[LayerInfo], axis: int) -> list[int]:
    """A long thin image, or the network's window."""
    if encoder.window is not None:
        return list(encoder.window)
    dims = encoder.spatial_dims
    multiple = encoder.multiple or (1,) * dims
    steps = [math.lcm(multiple[k], *(info.stride[k] for info in layers)) for k in range(dims)]
    size = [step * math.ceil((64 if dims == 2 else 16) / step) for step in steps]
    size[axis] = max(size[axis], min(_POSITIONS * steps[axis], _MOST // steps[axis] * steps[axis]))
    return size


def _period(encoder: Encoder, layer: LayerInfo, axis: int) -> int:
    """Positions after which a layer may repeat itself: what is made of one coarser position lies about it."""
    coarsest = max(info.stride[axis] for info in encoder.layers())
    if encoder.multiple:
        coarsest = max(coarsest, encoder.multiple[axis])
    return max(1, min(_MOST_PERIOD, coarsest // layer.stride[axis]))


def _offset(features: torch.Tensor, image: torch.Tensor, stride: int, axis: int, period: int) -> float | None:
    """The mean over as many positions in the middle as repeat themselves; None where it is not clear."""
    count = features.shape[2 + axis]
    if count < 2 or stride * count > 2 * image.shape[2 + axis]:
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
    """The voxel that a position's features depend on, on average; None where they depend on nothing."""
    index: list[Any] = [0, slice(None), *(n // 2 for n in features.shape[2:])]
    index[2 + axis] = place
    (slope,) = torch.autograd.grad(features[tuple(index)].sum(), image, retain_graph=True, allow_unused=True)
    if slope is None:
        return None
    along = slope[0, 0].abs().sum([k for k in range(image.ndim - 2) if k != axis]).double()
    along = along - along.median()
    along = torch.where(along > _FLOOR * along.max(), along, 0)
    if not float(along.sum()) > 0 or not bool(torch.isfinite(along).all()):
        return None
    voxels = torch.arange(len(along), dtype=torch.float64, device=along.device)
    return float((along * voxels).sum() / along.sum())


class _Linear(TorchFunctionMode):
    """Within: norms and activations hand on what they get, maxima are means, and tokens see themselves."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = getattr(func, "__name__", ""), kwargs or {}
        if args and name.rstrip("_") in _POINTWISE:
            return args[0]
        if name == "scaled_dot_product_attention":
            return given.get("value", args[2] if len(args) > 2 else None)
        pool = _MEANS.get(name)
        if pool is None:
            result = func(*args, **given)
            square = name == "softmax" and result.ndim > 2 and result.shape[-1] == result.shape[-2]
            return torch.eye(result.shape[-1]).to(result).expand_as(result) if square else result
        called = dict(zip(_POOLING, args, strict=False)) | given
        if called.get("dilation", 1) not in (1, (1, 1), (1, 1, 1)):
            return func(*args, **given)
        return pool(**{key: called[key] for key in _POOLING if key in called and key != "dilation"})
