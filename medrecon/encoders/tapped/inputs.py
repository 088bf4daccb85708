"""What a network takes beside the image: a time step, a prompt, a second image."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from medrecon.errors import ModelError, in_short, is_networks_own

IMAGE = "image"
"""Stands for the image itself."""

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Inputs:
    """Values for the parameters of a network's `forward` beside the first, which takes the image.

    Attributes:
        given: by name: a number (one for each image of a batch), nested lists of numbers (the same for each),
            "image", or what is handed on as it is (true, false, null, a text).
    """

    given: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def check(self, network: nn.Module) -> None:
        """Refuse a network that needs more, before it is run.

        Raises:
            ModelError: it has parameters without a default that are not given, or none of a name given.
        """
        try:
            signature = list(inspect.signature(network.forward).parameters.values())[1:]
        except (TypeError, ValueError):
            return
        known = [each.name for each in signature if each.kind in _NAMED]
        needed = [p.name for p in signature if p.kind in _NAMED and p.default is inspect.Parameter.empty]
        missing = [name for name in needed if name not in self.given]
        if missing:
            example = ", ".join(f'"{name}": ...' for name in missing)
            raise ModelError(
                f"{type(network).__name__} takes more than an image: {', '.join(missing)}",
                remedy=f"give a value for each with --encoder-inputs '{{{example}}}'",
            )
        unknown = [name for name in self.given if name not in known]
        if unknown and not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature):
            raise ModelError(
                f"{type(network).__name__} takes no '{unknown[0]}'",
                remedy=f"it takes {', '.join(known)}" if known else "leave --encoder-inputs out",
            )

    def run(self, network: nn.Module, image: torch.Tensor) -> Any:
        """The network's result for an image (B, C, *spatial)."""
        return network(image, **self._values(image))

    def run_or_refuse(self, network: nn.Module, image: torch.Tensor) -> Any:
        """The same; where the network fails, it is told what failed on what.

        Raises:
            ModelError: from whatever a stranger's network raises, but for want of memory and files.
        """
        values = self._values(image)
        try:
            return network(image, **values)
        except Exception as error:
            if not is_networks_own(error):
                raise
            raise ModelError(
                f"{type(network).__name__} fails on an image of shape {tuple(image.shape)} "
                f"({type(error).__name__}: {in_short(error)})",
                remedy="name a shallower layer, or give it images of another size",
            ) from error

    def _values(self, image: torch.Tensor) -> dict[str, Any]:
        return {name: _valued(value, image) for name, value in self.given.items()}


NOTHING = Inputs()
"""The image alone."""


def _valued(value: Any, image: torch.Tensor) -> Any:
    if value == IMAGE:
        return image
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return torch.full(image.shape[:1], value, device=image.device)
    if isinstance(value, float):
        return torch.full(image.shape[:1], value, device=image.device, dtype=image.dtype)
    try:
        one = torch.tensor(value, device=image.device)
    except (TypeError, ValueError):
        raise ModelError(
            f"{value!r} is no input", remedy="give a number, or nested lists of numbers"
        ) from None
    one = one.to(image.dtype) if one.is_floating_point() else one
    return one[None].expand(len(image), *one.shape)
