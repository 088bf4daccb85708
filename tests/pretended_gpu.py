"""A GPU that is not there: tensors say that they are on it, and what mixes them with others is written down.

All is computed on the CPU. Not pretended: precision, speed, memory, streams, several devices.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST, GPU = torch.device("cpu"), torch.device("cuda", 0)
_CROSSES = ("copy_", "set_", "_to_copy", "is_same_size")
"""Operations that may take tensors of both places."""

_ANSWERS: dict[str, Any] = {
    "is_available": True,
    "is_initialized": True,
    "device_count": 1,
    "current_device": 0,
    "mem_get_info": (8 << 30, 8 << 30),
    "is_bf16_supported": False,
    "get_device_name": "pretended",
    "synchronize": None,
    "empty_cache": None,
    "manual_seed_all": None,
}


class _Memory:
    """The storages that stand for the GPU's memory, held so that none is freed and its number used again."""

    def __init__(self) -> None:
        self._held: dict[int, torch.UntypedStorage] = {}

    def holds(self, tensor: torch.Tensor) -> bool:
        with contextlib.suppress(RuntimeError, NotImplementedError):
            return tensor.untyped_storage()._cdata in self._held
        return False

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self._held[storage._cdata] = storage
        return tensor

    def leave(self, tensor: torch.Tensor) -> torch.Tensor:
        self._held.pop(tensor.untyped_storage()._cdata, None)
        return tensor


def _wants(value: object) -> bool | None:
    """Whether a device is the GPU; None where it is no device."""
    if isinstance(value, (str, torch.device)):
        with contextlib.suppress(RuntimeError):
            return torch.device(value).type == "cuda"
    return None


def _is_torch(filename: str) -> bool:
    return "/torch/" in filename or filename == __file__


class _Asked(TorchFunctionMode):
    """What is asked for in Python: where a tensor is, and that it be made or moved somewhere."""

    def __init__(self, memory: _Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        owner = getattr(func, "__self__", None)
        if owner is torch.Tensor.device and self.memory.holds(args[0]):
            return GPU
        if owner is torch.Tensor.is_cuda:
            return self.memory.holds(args[0])
        if name in ("numpy", "__array__") and self.memory.holds(args[0]):
            raise TypeError("a tensor on cuda cannot become an array: use Tensor.cpu()")
        if name in ("to", "cpu", "cuda") and args and isinstance(args[0], torch.Tensor):
            return self._move(func, name, args, kwargs)
        if name in ("copy_", "__setitem__") and not self.memory.holds(args[0]):
            made = func(*args, **kwargs)
            self.memory.leave(args[0])  # what is put into a tensor lies where that is
            return made
        wanted = _wants(kwargs.get("device"))
        if wanted is None:
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": HOST})
        return self.memory.take(made) if wanted and isinstance(made, torch.Tensor) else made

    def _move(self, func: Any, name: str, args: Any, kwargs: Any) -> torch.Tensor:
        source, *rest = args
        here = self.memory.holds(source)
        there = {"cpu": False, "cuda": True}.get(name)
        for index, value in enumerate(rest):
            if isinstance(value, torch.Tensor):
                there = self.memory.holds(value)
            elif _wants(value) is not None:
                there, rest[index] = _wants(value), HOST
        if _wants(kwargs.get("device")) is not None:
            there, kwargs["device"] = _wants(kwargs["device"]), HOST
        made: torch.Tensor = source if name in ("cpu", "cuda") else func(source, *rest, **kwargs)
        if there is None or there == here:
            return self.memory.take(made) if here else made
        moved = made.clone()
        return self.memory.take(moved) if there else self.memory.leave(moved)


class _Computed(TorchDispatchMode):
    """What is computed: it lies where its operands do, and operands of two places are a fault."""

    def __init__(self, memory: _Memory, faults: list[str]) -> None:
        super().__init__()
        self.memory, self.faults = memory, faults

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wanted = _wants(kwargs.get("device"))
        if wanted:
            kwargs["device"] = HOST
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        places = [self.memory.holds(operand) for operand in operands]
        name = func.__name__
        # torch lets numbers of no dimension and a GPU tensor's index come from the CPU
        mixed = {place for operand, place in zip(operands, places, strict=True) if place or operand.ndim}
        free = any(name.startswith(word) for word in _CROSSES) or (name.startswith("index") and places[0])
        if len(mixed) > 1 and not free:
            outside = (f for f in reversed(traceback.extract_stack()) if not _is_torch(f.filename))
            frame = next(outside)
            pairs = zip(operands, places, strict=True)
            where = ", ".join(f"{'cuda' if place else 'cpu'}{list(one.shape)}" for one, place in pairs)
            self.faults.append(f"{name} of {where} at {frame.filename}:{frame.lineno}")
        made = func(*args, **kwargs)
        target = any(places) if wanted is None else wanted
        if target:
            for leaf in tree_leaves(made):
                if isinstance(leaf, torch.Tensor):
                    self.memory.take(leaf)
        return made


@contextlib.contextmanager
def pretended_gpu() -> Iterator[list[str]]:
    """Within, "cuda" can be asked for. Gives the faults, one line each, as they come."""
    memory, faults = _Memory(), list[str]()
    with contextlib.ExitStack() as stack:
        for name, answer in _ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, _a=answer, **__: _a))
        # a build of torch for GPUs would ask the driver that is not there; one for CPUs gives None by itself
        stack.enter_context(mock.patch.object(torch.accelerator, "current_accelerator", return_value=None))
        stack.enter_context(_Computed(memory, faults))
        stack.enter_context(_Asked(memory))
        yield faults
