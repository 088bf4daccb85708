"""What the modules of a network hand on, seen by hooks that are there only while it runs."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from medrecon.encoders.tapped.functions import watching_functions

INPUT = "input"
"""Taken: the control without a network. A module of that name is called `input:1`."""

OUTPUT = "output"
"""The name under which a network's own result is tapped."""


class _Ended(BaseException):
    """The run ends within a hook. No Exception, so that a network's own `except` lets it through."""


def module_names(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, under its first name; the network itself is called `output`."""
    names = dict(network.named_modules())
    for name, module in names.items():
        yield name or (OUTPUT if OUTPUT not in names else f"{OUTPUT}:0"), module


def tensors_of(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a module's result: `name`, `name[0]`, `name[key]`, `name[1][0]`."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_of(part, f"{name}[{key}]")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from tensors_of(part, f"{name}[{number}]")


@contextlib.contextmanager
def _as_before(network: nn.Module) -> Iterator[None]:
    """Attributes of its modules are put back that the run sets."""
    before = [(vars(module), dict(vars(module))) for module in network.modules()]
    try:
        yield
    finally:
        for there, old in before:
            for name in [name for name in there if name not in old]:
                del there[name]
            there.update({name: value for name, value in old.items() if there.get(name) is not value})


def watch(
    network: nn.Module,
    run: Callable[[], Any],
    see: Callable[[str, str, torch.Tensor], bool],
    modules: Iterable[str] | None = None,
    operations: bool = False,
) -> None:
    """Run a network and show each tensor that its modules return, in the order of execution.

    Nothing is left on the network afterwards, whatever happens: neither hooks nor what its modules note down
    of an image, as Swin's in transformers keep a smaller window once they saw a small one. A network run by
    another thread meanwhile is not seen.

    Args:
        network: whose modules are watched.
        run: runs it.
        see: called with the tensor's name (`relu`, at its second call `relu:2`), its module's name, and the
            tensor itself, which the network may overwrite later; True ends the run there. What it raises is
            raised as it is, whatever `run` makes of errors.
        modules: only these, by name; all when None.
        operations: show what functions return too (`relu`, `cat`, `+`), where a module that consists of
            others calls them: `layer1.0/add` within `layer1.0`, `/add` within the network itself.
    """
    calls: Counter[str] = Counter()
    faults: list[Exception] = []
    thread = threading.get_ident()
    chosen = None if modules is None else set(modules)

    def show(key: str, name: str, result: Any) -> None:
        calls[key] += 1
        key = key if calls[key] == 1 and key != INPUT else f"{key}:{calls[key]}"
        last = False
        try:
            with torch._C.DisableTorchFunction() if operations else contextlib.nullcontext():
                for part, tensor in tensors_of(result, key):
                    last = see(part, name, tensor) or last
        except Exception as error:
            faults.append(error)
            raise _Ended from error
        if last:
            raise _Ended

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, result: Any) -> None:
            if threading.get_ident() == thread:
                show(name, name, result)

        return hook

    named = [(name, each) for name, each in module_names(network) if chosen is None or name in chosen]
    functions = watching_functions(network, named, show) if operations else contextlib.nullcontext()
    with _as_before(network), functions:
        hooks = [module.register_forward_hook(hook_for(name)) for name, module in named]
        try:
            run()
        except _Ended:
            pass
        finally:
            for hook in hooks:
                hook.remove()
    if faults:
        raise faults[0]
