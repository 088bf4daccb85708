"""What a network asks of images before it is run: axes and channels, and whether it takes any."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from medrecon.encoders.tapped.inputs import Inputs
from medrecon.errors import ModelError, in_short

LEARNED_FROM = {2: 64, 3: 32}
"""Sides of the first image of a network that learns sizes from it."""


def initialise_lazy(network: nn.Module, dims: int | None, channels: int | None, inputs: Inputs) -> None:
    """Run a network once whose lazy modules (`nn.LazyConv2d` ...) learn their sizes from the first image.

    Raises:
        ModelError: it does not run on an image of a usual size.
    """
    tensors = itertools.chain(network.parameters(), network.buffers())
    if not any(is_lazy(tensor) for tensor in tensors):
        return
    inputs.check(network)
    dims = dims or dims_of(network)
    image = torch.zeros(1, channels or 1, *(LEARNED_FROM[dims],) * dims)
    try:
        with torch.no_grad():
            inputs.run(network.eval(), image)
    except Exception as error:
        raise ModelError(
            f"the lazy modules of {type(network).__name__} do not get their sizes ({in_short(error)})",
            remedy='say the channels of its images: {"_in_channels_": 3}',
        ) from error


def dims_of(network: nn.Module) -> int:
    """2 or 3, as its first convolution has it.

    Raises:
        ModelError: it has none.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return 2 if isinstance(module, nn.Conv2d) else 3
    raise ModelError(
        f"{type(network).__name__} has no convolution that tells 2D from 3D", remedy="give spatial_dims"
    )


def channel_choices(network: nn.Module, given: int | None) -> list[int]:
    """Channels of its images that are worth trying, likeliest first."""
    if given is not None:
        return [given]
    kinds = (nn.Conv2d, nn.Conv3d)
    first = next((m.in_channels for m in network.modules() if isinstance(m, kinds)), 1)
    return list(dict.fromkeys((first, 1, 3, 2, 4)))


def row_of(network: nn.Module) -> int | None:
    """How many numbers a network takes that begins with a linear layer, as a generator's does."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            return module.in_features
        if not any(module.children()) and not isinstance(module, nn.Flatten | nn.Identity | nn.Dropout):
            return None
    return None
