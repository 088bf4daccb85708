"""Encoders that training cannot touch, while gradients still flow through them to the image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TypeVar

import torch

from medrecon.blocks.weights import fingerprint, fit_weights, read_weights  # noqa: F401 - offered with encoders
from medrecon.contract import Allocation, Encoder, Features, LayerInfo

Self = TypeVar("Self", bound="Frozen")


class Frozen(Encoder):
    """Base of encoders whose weights never change.

    Trainers call `train()` on the whole network in each iteration, so that call is where an encoder thaws:
    batch norm starts to follow the batch. Here it re-asserts evaluation mode and parameters without gradient.
    """

    def train(self: Self, mode: bool = True) -> Self:
        """Stay in evaluation mode, without trainable parameters, whatever `mode` says."""
        super().train(False)
        self.requires_grad_(False)
        return self

    def freeze(self: Self) -> Self:
        """Freeze now: to be called at the end of a subclass' `__init__`."""
        return self.train(False)


class FrozenEncoder(Frozen):
    """Any encoder, frozen: the same layers and features, no training.

    Args:
        encoder: frozen in place, not copied.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.window, self.multiple = encoder.window, encoder.multiple
        self.geometry, self.refused, self.notes = encoder.geometry, dict(encoder.refused), encoder.notes
        self.scale, self.units, self.channel_names = encoder.scale, encoder.units, encoder.channel_names
        self.channels_needed = encoder.channels_needed
        self.freeze()

    def layers(self) -> list[LayerInfo]:
        """The layers of the encoder, shallow to deep."""
        return self.encoder.layers()

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image` (B, C, *spatial); raises what the encoder raises."""
        features: Features = self.encoder(image, names)
        return features

    def measure(self) -> list[LayerInfo]:
        """The layers of the encoder with their receptive fields."""
        return self.encoder.measure()

    def conditioned_on(self, whole: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Within: the encoder takes images as parts of this whole."""
        return self.encoder.conditioned_on(whole)

    @property
    def is_conditioned(self) -> bool:
        """Whether the encoder is."""
        return self.encoder.is_conditioned

    def allocations(self) -> dict[str, Allocation]:
        """Those of the encoder."""
        return self.encoder.allocations()

    @property
    def unwrapped(self) -> Encoder:
        """The encoder, whose weights these are."""
        return self.encoder.unwrapped
