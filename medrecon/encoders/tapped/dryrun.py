"""A network run for its shapes alone, on the meta device: nothing is computed, any size is free."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from medrecon.encoders.tapped.inputs import NOTHING, Inputs
from medrecon.encoders.tapped.layout import Shape
from medrecon.encoders.tapped.watch import watch

MODES = ("meta", "real")
"""Ways to run: on the meta device, where nothing is computed; and truly, where a network cannot do that."""

BATCH = 2

MOST_REAL = 1 << 20
"""Voxels of an image on which a network is truly run for its shapes."""


@dataclass(frozen=True)
class Seen:
    """A tensor that a module returned.

    Attributes:
        module: which one.
        shape: of the tensor.
        floating: it holds floating point numbers.
        overwritten: the network changes it later on.
        drawn: something before it was picked at random places, as a masked autoencoder picks its tokens.
    """

    module: str
    shape: Shape
    floating: bool
    overwritten: bool = False
    drawn: bool = False


class _Values(TorchDispatchMode):
    """Values on the meta device: those of the network's own small tensors are known, and what follows.

    So a network may decide by a table of its own what it computes (DiNTS: by the architecture that was
    found). A truth that depends on the image is taken as False: networks look whether anything is NaN.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # both kept: no other gets the same id

    def know(self, meta: torch.Tensor, value: torch.Tensor) -> None:
        """Remember the value of a tensor on the meta device, if it is small."""
        if value.numel() <= _SMALL:
            self._known[id(meta)] = meta, value

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        known = all(id(each) in self._known for each in given)
        if func is _VALUE and given[0].is_meta:
            if known:
                return func(self._known[id(given[0])][1])
            if given[0].dtype == torch.bool:
                return False
        made = func(*args, **(kwargs or {}))
        if given and known and not func._schema.is_mutable:
            values = {id(each): self._known[id(each)][1] for each in given}
            real = tree_map(lambda each: values.get(id(each), each), (args, kwargs or {}))
            for each, value in zip(tree_leaves(made), tree_leaves(func(*real[0], **real[1])), strict=True):
                if isinstance(each, torch.Tensor) and each.is_meta:
                    self.know(each, value)
        return made


_VALUE = torch.ops.aten._local_scalar_dense.default
_SMALL = 4096
"""Values of a tensor that is kept beside its shape."""


class _Randomness(TorchDispatchMode):
    """Notes whether anything random is computed, and whether it decides which values are picked."""

    def __init__(self) -> None:
        super().__init__()
        self.found = self.picks = False
        self._random: dict[int, torch.Tensor] = {}  # kept, so that no other tensor gets the same id

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        drawn = torch.Tag.nondeterministic_seeded in func.tags
        self.found = self.found or drawn
        if not self.found:
            return made
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        tainted = [each for each in given if id(each) in self._random]
        if func.__name__.startswith(_PICKING) and any(not each.is_floating_point() for each in tainted):
            self.picks = True
        if drawn or tainted:
            self._random |= {id(each): each for each in tree_leaves(made) if isinstance(each, torch.Tensor)}
        return made


_PICKING = ("gather", "index", "take", "scatter")
"""Beginnings of the names of operations that pick values by their place."""


@dataclass
class ShapeRunner:
    """Runs a network for its shapes.

    Attributes:
        network: the network, in evaluation mode.
        mode: one of `MODES`.
        channels: channels of its images.
        inputs: what it takes beside them.
        operations: show the functions that it calls too (`watch`).
        failure: what the last size that did not work was answered with.
    """

    network: nn.Module
    mode: str
    channels: int
    inputs: Inputs = NOTHING
    operations: bool = False
    failure: str = ""
    random: bool = field(default=False, init=False)

    @property
    def ways(self) -> tuple[bool, str, Inputs, bool]:
        """How it is run: what a `Survey` ends with."""
        return self.random, self.mode, self.inputs, self.operations

    def shapes(
        self, size: Sequence[int], batch: int = BATCH, until: Collection[str] = ()
    ) -> dict[str, Seen] | None:
        """What each module returns for images of this size, in order; None where the network refuses it.

        With `until`, the run ends when all these were seen.
        """
        found: dict[str, tuple[Seen, torch.Tensor, int]] = {}
        waiting = set(until)

        def see(key: str, module: str, tensor: torch.Tensor) -> bool:
            seen = Seen(module, tuple(tensor.shape), tensor.is_floating_point(), drawn=noted.picks)
            found[key] = seen, tensor, tensor._version
            waiting.discard(key)
            return bool(until) and not waiting

        if self.mode == "real" and math.prod(size) > MOST_REAL:
            self.failure = f"it was not tried on {'x'.join(map(str, size))}"
            return None
        noted = _Randomness()
        try:
            with torch.no_grad(), noted:
                image = self._image((batch, self.channels, *size))
                watch(self.network, lambda: self._call(image), see, operations=self.operations)
        except Exception as error:  # whatever a stranger's network raises
            said = str(error).strip() or type(error).__name__
            self.failure = said.splitlines()[0]
            return None
        self.random = self.random or noted.found
        return {
            key: replace(seen, overwritten=tensor._version != version)
            for key, (seen, tensor, version) in found.items()
        }

    def takes(self, size: Sequence[int]) -> bool:
        """Whether the network runs on images of this size."""
        return self.shapes(size) is not None

    def _call(self, image: torch.Tensor) -> object:
        if self.mode != "meta":
            return self.inputs.run(self.network, image)
        with _Values() as values, _on_meta(self.network, values.know):
            return self.inputs.run(self.network, image)

    def _image(self, shape: Shape) -> torch.Tensor:
        like = next(self.network.parameters(), torch.empty(0))
        dtype = like.dtype if like.is_floating_point() else torch.float32
        return torch.zeros(shape, dtype=dtype, device="meta" if self.mode == "meta" else like.device)


@contextlib.contextmanager
def seeded(device: torch.device, random: bool = True) -> Iterator[None]:
    """The same random numbers each time, and those of the caller undisturbed; nothing unless `random`."""
    if not random:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


@contextlib.contextmanager
def _on_meta(network: nn.Module, know: Callable[[torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """The network's tensors swapped for their shapes, of which `know` is told, and put back.

    Not by `torch.func.functional_call`, which leaves modules that are registered twice on the meta device.
    """
    kept: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    shapes: dict[int, torch.Tensor] = {}
    try:
        for module in network.modules():
            places: tuple[Any, ...] = (module._parameters, module._buffers, vars(module))
            for place in places:
                for key, tensor in place.items():
                    if isinstance(tensor, torch.Tensor):
                        kept.append((place, key, tensor))
                        plain = tensor.detach()
                        place[key] = shapes.setdefault(id(tensor), plain.to("meta"))
                        know(place[key], plain)
        yield
    finally:
        for place, key, tensor in kept:
            place[key] = tensor
