"""A copy of a network through which coordinates pass unbent: what it gives at a position is where it looks.

Its kernels hold one number each; norms, activations and gates are left out, maxima are means, tokens attend
to themselves. What convolutions and pooling find beyond the edge goes on as the image does, in a straight
line, so that positions at the edge are no exception.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medrecon.contract import Encoder

_GOLDEN = (5**0.5 - 1) / 2
"""Kernels weigh a little differently, so that ways of different centres do not join in another by chance."""

_PASSED = {
    *("batch_norm", "instance_norm", "layer_norm", "group_norm", "local_response_norm", "rms_norm"),
    *("normalize", "relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "celu", "selu", "gelu", "silu"),
    *("mish", "tanh", "hardtanh", "hardswish", "softplus", "softsign", "dropout", "clamp", "clip"),
}
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
_GATES = {"sigmoid", "hardsigmoid"}
_CONVOLVED = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_MAXIMUM = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
_MEAN = ("input", "kernel_size", "stride", "padding", "ceil_mode")
_RESIZED = ("input", "size", "scale_factor", "mode", "align_corners")
_ADAPTIVE: dict[str, Callable[..., torch.Tensor]] = {
    "adaptive_max_pool1d": functional.adaptive_avg_pool1d,
    "adaptive_max_pool2d": functional.adaptive_avg_pool2d,
    "adaptive_max_pool3d": functional.adaptive_avg_pool3d,
}
_CURVED = {"linear", "bilinear", "bicubic", "trilinear"}


def even_copy(encoder: Encoder) -> Encoder | None:
    """A copy on the CPU whose kernels hold one number each; None for what cannot be copied."""
    try:
        even = copy.deepcopy(encoder).float().cpu()
    except Exception:  # a network that cannot be copied is not changed instead
        return None
    with torch.no_grad():
        for number, module in enumerate(even.modules()):
            if isinstance(module, _NORMS):  # those too that reckon in their own way, as MAISI's do
                vars(module)["forward"] = _as_given
            own = dict(module.named_parameters(recurse=False))
            weight, bias = own.get("weight"), own.get("bias")
            if weight is not None and weight.is_floating_point():
                weight.fill_((0.8 + 0.4 * (_GOLDEN * number % 1)) / max(1, weight[0].numel()))
            if bias is not None and bias.is_floating_point():
                bias.zero_()
    return even


def _as_given(*given: Any, **named: Any) -> Any:
    return (*given, *named.values())[0]


class Straight(TorchFunctionMode):
    """Within: functions do to coordinates what they do to places.

    Args:
        gates: sigmoids weigh what they are multiplied with, all alike; False: they are activations.
    """

    def __init__(self, gates: bool = True) -> None:
        super().__init__()
        self.gates = gates

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if args and name in _PASSED:
            return args[0]
        if args and name in _GATES:
            return torch.ones_like(args[0]) if self.gates else args[0]
        replacement = _REPLACED.get(name)
        return func(*args, **given) if replacement is None else replacement(func, args, given)


def straightened(values: torch.Tensor, sides: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The last axes with more positions before and after, in a straight line; cut where these are negative.

    Args:
        values: any tensor.
        sides: (before, after) of each of the last axes, first axis first.
    """
    for axis, (before, after) in zip(range(values.ndim - len(sides), values.ndim), sides, strict=True):
        low, high = max(0, -before), max(0, -after)
        values = values.narrow(axis, low, values.shape[axis] - low - high)
        parts = [values]
        for count, edge, inner in ((before, 0, 1), (after, -1, -2)):
            if count <= 0:
                continue
            first = values.select(axis, edge).unsqueeze(axis)
            slope = (
                first - values.select(axis, inner).unsqueeze(axis) if values.shape[axis] > 1 else 0 * first
            )
            steps = torch.arange(1, count + 1, dtype=values.dtype, device=values.device)
            steps = steps.flip(0) if edge == 0 else steps
            beyond = first + slope * steps.view(*(-1 if k == axis else 1 for k in range(values.ndim)))
            parts = [beyond, *parts] if edge == 0 else [*parts, beyond]
        values = torch.cat(parts, axis) if len(parts) > 1 else values
    return values


def _many(value: Any, count: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def _called(names: Sequence[str], args: Sequence[Any], given: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args, strict=False)) | given


def _convolve(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    called = _called(_CONVOLVED, args, given)
    sizes = called["weight"].shape[2:]
    padding, dilation = called.get("padding", 0), _many(called.get("dilation", 1), len(sizes))
    if isinstance(padding, str):
        wide = [
            step * (size - 1) if padding == "same" else 0 for step, size in zip(dilation, sizes, strict=True)
        ]
        sides = [(width // 2, width - width // 2) for width in wide]
    else:
        sides = [(width, width) for width in _many(padding, len(sizes))]
    return _summed(func, called | {"padding": 0}, sides)


def _summed(func: Any, called: dict[str, Any], sides: Sequence[tuple[int, int]]) -> torch.Tensor:
    """A convolution, with one channel for all of a group, since even kernels see their sum."""
    values, weight, bias = called["input"], called["weight"], called.get("bias")
    if bool((weight != weight.flatten()[0]).any()) or (bias is not None and bool(bias.any())):
        made: torch.Tensor = func(**(called | {"input": straightened(values, sides)}))
        return made
    groups, axis = called.get("groups", 1), values.ndim - weight.ndim + 1
    sums = straightened(values.unflatten(axis, (groups, -1)).sum(axis + 1), sides)
    kernel = weight[:1, :1].expand(groups, 1, *weight.shape[2:])
    made = func(**(called | {"input": sums, "weight": kernel, "bias": None}))
    outputs = weight.shape[1] if "output_padding" in called else weight.shape[0] // groups
    return made.repeat_interleave(outputs, axis)


def _transpose(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    called = _called(_TRANSPOSED, args, given)
    sizes = called["weight"].shape[2:]
    dims = len(sizes)
    steps, dilation = _many(called.get("stride", 1), dims), _many(called.get("dilation", 1), dims)
    reach = [math.ceil(d * (size - 1) / step) for d, size, step in zip(dilation, sizes, steps, strict=True)]
    made = _summed(func, {"output_padding": 0} | called, [(n, n) for n in reach])
    return straightened(made, [(-n * step, -n * step) for n, step in zip(reach, steps, strict=True)])


def _pool(names: Sequence[str]) -> Callable[..., Any]:
    def mean(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
        called = _called(names, args, given)
        values = called["input"]
        dims = int(func.__name__[-2])
        sizes = _many(called["kernel_size"], dims)
        steps = _many(called.get("stride") or sizes, dims)
        pads = _many(called.get("padding", 0), dims)
        dilation = _many(called.get("dilation", 1), dims)
        for axis, (size, step, pad, d) in enumerate(zip(sizes, steps, pads, dilation, strict=True)):
            axis, reach = values.ndim - dims + axis, d * (size - 1) + 1
            length = values.shape[axis]
            spare = length + 2 * pad - reach
            count = (math.ceil(spare / step) if called.get("ceil_mode", False) else spare // step) + 1
            count -= (count - 1) * step >= length + pad
            sides = [(0, 0)] * (values.ndim - axis)
            sides[0] = (pad, (count - 1) * step + reach - length - pad)
            values = straightened(values, sides).unfold(axis, reach, step)[..., ::d].mean(-1)
        return values

    return mean


def _adapt(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    called = _called(("input", "output_size"), args, given)
    return _ADAPTIVE[func.__name__](called["input"], called["output_size"])


def _pad(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    called = _called(("input", "pad"), args, given)
    ends = list(called["pad"])
    return straightened(called["input"], list(zip(ends[::2], ends[1::2], strict=True))[::-1])


def _resize(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    called = _called(_RESIZED, args, given)
    values = called["input"]
    if called.get("mode", "nearest") not in _CURVED:
        return func(**called)
    called["align_corners"] = (
        False  # else positions drift apart towards the ends; about the middle it is the same
    )
    made = func(**called)
    pairs = list(zip(made.shape[2:], values.shape[2:], strict=True))
    if any(new % old for new, old in pairs):
        return made
    wide = straightened(values, [(2, 2)] * len(pairs))
    sizes = [new // old * (old + 4) for new, old in pairs]
    made = func(wide, size=sizes, mode=called["mode"], align_corners=False)
    return straightened(made, [(-2 * (new // old),) * 2 for new, old in pairs])


def _own_value(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    value = given.get("value", args[2] if len(args) > 2 else None)
    return (value, None) if func.__name__ == "multi_head_attention_forward" else value


def _softmax(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    """Weights of an attention: tokens see themselves, or all others alike; channels are left as they are."""
    values = args[0] if args else given["input"]
    axis = given.get("dim", args[1] if len(args) > 1 else -1)
    if axis not in (-1, values.ndim - 1) or values.ndim < 3:
        return values
    if values.shape[-1] == values.shape[-2]:
        return torch.eye(values.shape[-1]).to(values).expand_as(values)
    return torch.full_like(values, 1 / values.shape[-1])


def _middle(func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
    """Of two values the mean, where both are tensors; else a bound that is no matter."""
    both = [value for value in (*args, *given.values()) if isinstance(value, torch.Tensor)]
    if len(args) + len(given) != 2 or len(both) < 2:
        return func(*args, **given)
    return (both[0] + both[1]) / 2


_REPLACED: dict[str, Callable[..., Any]] = {
    **{f"conv{dims}d": _convolve for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _transpose for dims in (1, 2, 3)},
    **{f"max_pool{dims}d": _pool(_MAXIMUM) for dims in (1, 2, 3)},
    **{f"avg_pool{dims}d": _pool(_MEAN) for dims in (1, 2, 3)},
    **dict.fromkeys(_ADAPTIVE, _adapt),
    "pad": _pad,
    "interpolate": _resize,
    "upsample": _resize,
    "scaled_dot_product_attention": _own_value,
    "multi_head_attention_forward": _own_value,
    "softmax": _softmax,
    **dict.fromkeys(("randn_like", "rand_like"), lambda func, args, given: torch.zeros_like(args[0])),
    "maximum": _middle,
    "minimum": _middle,
}
