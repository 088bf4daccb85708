"""An encoder and its inversion as one network: image in, image out, through the layers that are named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from medrecon.errors import ModelError
from medrecon.types import LayerInfo

INPUT = "input"
"""The name of the control without a network: the image itself."""


def parse_layers(result: str) -> tuple[str, ...]:
    """The layers that a result's name joins: "level2+level4" -> ("level2", "level4")."""
    names = tuple(name.strip() for name in result.split("+"))
    if not all(names):
        raise ModelError(f"'{result}' names an empty layer", remedy="write layers as level2+level4")
    if len(set(names)) != len(names):
        raise ModelError(f"'{result}' names a layer twice", remedy="name each layer once")
    if INPUT in names and len(names) > 1:
        raise ModelError(f"'{result}' joins the image itself with layers", remedy="use input alone")
    return names


class Reconstructor(nn.Module):
    """The `network_def` of each bundle: features of the chosen layers, and the image that they give back.

    Args:
        encoder: has `layers()` and `forward(image, names) -> Features`.
        inversion: has `forward(features, shape) -> image`.
        layers: the result computed when `forward` is not told; the deepest layer when None.
        training_layers: while training, each call draws one of these results with the weight given, so that
            one inversion learns to answer for every subset. Drawn from torch's global generator.
        mixed_precision: run the convolutions in bfloat16 (autocast).
    """

    def __init__(
        self,
        encoder: nn.Module,
        inversion: nn.Module,
        layers: str | None = None,
        training_layers: Mapping[str, float] | None = None,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.inversion = inversion
        self.default = layers or self.layers()[-1].name
        self.training_layers = dict(training_layers or {})
        self.mixed_precision = mixed_precision

    def layers(self) -> list[LayerInfo]:
        """The layers that can be named, shallow to deep."""
        return list(self.encoder.layers())

    def forward(self, image: torch.Tensor, layers: str | Sequence[str] | None = None) -> torch.Tensor:
        """Reconstruct an image from layers.

        Args:
            image: (B, 1, *spatial), any spatial size, intensities mapped to [0, 1].
            layers: "level3", "level2+level4" or a sequence of names; the default result when None.

        Returns:
            (B, 1, *spatial).

        Raises:
            ModelError: when a layer does not exist.
        """
        if layers is None:
            layers = self.draw() if self.training and self.training_layers else self.default
        return next(iter(self.reconstruct(image, [layers])))

    def reconstruct(
        self, image: torch.Tensor, results: Sequence[str | Sequence[str]]
    ) -> Iterable[torch.Tensor]:
        """One image for each result in turn; the encoder runs once. `input` gives the image itself."""
        names = [parse_layers(r) if isinstance(r, str) else tuple(r) for r in results]
        needed = [layer.name for layer in self.layers() if any(layer.name in n for n in names)]
        unknown = [n for group in names for n in group if n not in needed and n != INPUT]
        device = image.device.type
        with torch.autocast(device, torch.bfloat16) if self.mixed_precision else contextlib.nullcontext():
            features = self.encoder(image, needed + unknown) if needed or unknown else {}
        for group in names:
            if group == (INPUT,):
                yield image
                continue
            with torch.autocast(device, torch.bfloat16) if self.mixed_precision else contextlib.nullcontext():
                yield self.inversion({name: features[name] for name in group}, image.shape[2:])

    def draw(self) -> str:
        """One of the training results, by its weight."""
        names = list(self.training_layers)
        weights = torch.tensor([float(self.training_layers[name]) for name in names])
        return names[int(torch.multinomial(weights, 1))]
