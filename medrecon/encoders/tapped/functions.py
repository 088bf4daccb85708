"""What functions return within the modules of a network: those that no hook sees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

_ARITHMETIC = ("add", "sub", "mul", "div", "truediv", "cat", "concat", "stack", "matmul", "bmm", "einsum")
_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh"),
    *("softmax", "log_softmax", "softplus", "hardswish", "hardsigmoid", "hardtanh", "exp"),
)
_LAYERS = (
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d", "pad", "interpolate"),
    *("layer_norm", "group_norm", "batch_norm", "instance_norm", "normalize", "grid_sample"),
    *("pixel_shuffle", "pixel_unshuffle", "scaled_dot_product_attention", "max_pool2d", "max_pool3d"),
    *("avg_pool2d", "avg_pool3d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean", "sum", "where"),
)
FUNCTIONS = frozenset((*_ARITHMETIC, *_ACTIVATIONS, *_LAYERS))
"""Names of functions that compute features; the others only arrange them anew."""

Show = Callable[[str, str, Any], None]
"""Called with the key of what was computed, the name of the module, and the result."""


@contextlib.contextmanager
def watching_functions(
    network: nn.Module, named: Sequence[tuple[str, nn.Module]], show: Show
) -> Iterator[None]:
    """Within: what functions return is shown, by the module whose forward pass calls them.

    torch's own modules that consist of no others are left out: what they return is known by their name.

    Args:
        network: which is run.
        named: the modules that are watched, with their names.
        show: see `Show`.
    """
    running: list[nn.Module] = []

    def begin(module: nn.Module, arguments: Any) -> None:
        running.append(module)

    def end(module: nn.Module, arguments: Any, result: Any) -> None:
        while running and running.pop() is not module:
            pass  # a module that failed within a network's own `try`

    hooks: list[RemovableHandle] = []
    names = {id(module): name for name, module in named if not _is_plain(module)}
    try:
        for module in network.modules():
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
        with _Functions(running, names, id(network), show):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_plain(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.") and next(module.children(), None) is None


class _Functions(TorchFunctionMode):
    def __init__(self, running: list[nn.Module], names: dict[int, str], whole: int, show: Show) -> None:
        super().__init__()
        self.running, self.names, self.whole, self.show = running, names, whole, show

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        name = name.removeprefix("i") if name in ("iadd", "isub", "imul", "itruediv") else name
        name = name.removeprefix("r") if name in ("radd", "rsub", "rmul", "rtruediv") else name
        inside = id(self.running[-1]) if self.running else 0
        if name in FUNCTIONS and inside in self.names:
            module = self.names[inside]
            place = "" if inside == self.whole else module
            self.show(f"{place}/{name}", module, result)
        return result
