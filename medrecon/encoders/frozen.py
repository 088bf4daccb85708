"""Encoders that training cannot touch, while gradients still flow through them to the image."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from medrecon.contract import Features, LayerInfo


class Frozen(nn.Module):
    """Base of encoders whose weights never change.

    Trainers call `train()` on the whole network in each iteration, so that call is where an encoder thaws:
    batch norm starts to follow the batch. Here it re-asserts evaluation mode and parameters without gradient.
    """

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode, without trainable parameters, whatever `mode` says."""
        super().train(False)
        self.requires_grad_(False)
        return self

    def freeze(self) -> Frozen:
        """Freeze now: to be called at the end of a subclass' `__init__`."""
        return self.train(False)


class FrozenEncoder(Frozen):
    """Any encoder, frozen: the same layers and features, no training.

    Args:
        encoder: a module with `layers()` and `forward(image, names)`; it is frozen in place, not copied.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.freeze()

    @property
    def wrapped(self) -> nn.Module:
        """The encoder, whose weights these are."""
        return self.encoder

    @property
    def normalised(self) -> bool:
        """Whether it takes images as parts of a whole, whose statistics it holds."""
        return getattr(self.encoder, "normalised", False)

    def layers(self) -> list[LayerInfo]:
        """The layers of the encoder, shallow to deep."""
        return self.encoder.layers()  # type: ignore[operator]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image` (B, C, *spatial); raises what the encoder raises."""
        return self.encoder(image, names)
