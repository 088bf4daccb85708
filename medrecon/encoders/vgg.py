"""VGG16 and VGG19 as feature encoders of slices (Simonyan & Zisserman 2015, arXiv:1409.1556)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from medrecon.blocks.padding import pad_to_multiple
from medrecon.blocks.weights import fit_weights, read_weights
from medrecon.contract import Features, LayerInfo
from medrecon.encoders.frozen import Frozen
from medrecon.encoders.naming import resolve_layers
from medrecon.errors import ModelError

BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five blocks: configurations D and E of the paper."""

CHANNELS = (64, 128, 256, 512, 512)

NORMALISATIONS = {
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
    "torchvision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of red, green, blue in [0, 1] that a training run subtracted and divided by."""


class VGGEncoder(Frozen):
    """The convolutions of VGG16 or VGG19, frozen, tapped after any ReLU (`relu1_1` ... `relu5_3` or `5_4`).

    The state dict has torchvision's keys (`features.0.weight` ...). Weights of the original authors (Caffe)
    and of torchvision's training expect different normalisations; the wrong one runs without a sign, so it
    is to be named with the file.

    Args:
        depth: 16 or 19.
        weights: a safetensors or torch file with torchvision's keys (its `classifier.*` may be there, and is
            not used), or None for random weights.
        sha256: expected SHA-256 of that file, None for any.
        normalisation: "caffe" (the original weights: 0..255 less the mean colour) or "torchvision".

    Raises:
        ModelError: unknown depth or normalisation, or weights that are not exactly this network's.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        depth: int = 16,
        weights: str | Path | None = None,
        sha256: str | None = None,
        normalisation: str = "caffe",
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ModelError(f"there is no VGG{depth} here", remedy="choose depth 16 or 19")
        if normalisation not in NORMALISATIONS:
            known = " or ".join(NORMALISATIONS)
            raise ModelError(f"there is no normalisation {normalisation!r}", remedy=f"choose {known}")
        mean, std = NORMALISATIONS[normalisation]
        # Not in the state dict: its keys stay torchvision's.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.features = nn.Sequential()
        self._layers: dict[str, tuple[int, LayerInfo]] = {}
        self._build(BLOCKS[depth])
        if weights is not None:
            fit_weights(self, read_weights(weights, sha256), weights, unused=("classifier.",))
        self.freeze()

    def _build(self, blocks: tuple[int, ...]) -> None:
        last, stride, field = 3, 1, 1
        for block, (count, channels) in enumerate(zip(blocks, CHANNELS, strict=True), start=1):
            for conv in range(1, count + 1):
                layer = nn.Conv2d(last, channels, kernel_size=3, padding=1)
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
                self.features.extend([layer, nn.ReLU()])
                last, field = channels, field + 2 * stride
                info = LayerInfo(f"relu{block}_{conv}", channels, (stride, stride), (field, field))
                self._layers[info.name] = (len(self.features) - 1, info)
            self.features.append(nn.MaxPool2d(kernel_size=2, stride=2))
            field, stride = field + stride, 2 * stride

    def layers(self) -> list[LayerInfo]:
        """The thirteen (sixteen) ReLU layers, shallow to deep."""
        return [info for _, info in self._layers.values()]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of slices; computes nothing beyond the deepest layer asked for.

        Args:
            image: (B, 1 or 3, H, W), [0, 1]; one channel is taken as grey. Its far ends are repeated up to a
                multiple of 16, so that pooling loses no row of an odd size.
            names: layers, all when None.

        Returns:
            name -> (B, channels, *padded / stride).

        Raises:
            ModelError: a layer that does not exist, or an image of another form.
        """
        wanted = resolve_layers(names, self._layers)
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ModelError(
                f"VGG takes images of shape (B, 1 or 3, H, W), not {tuple(image.shape)}",
                remedy="give it slices of a volume, with one or three channels",
            )
        deepest = max(self._layers[name][0] for name in wanted)
        taps = {self._layers[name][0]: name for name in wanted}
        image = pad_to_multiple(
            image, 16
        )  # the deepest stride, so that a layer does not depend on its company
        x = (image - self.mean) / self.std  # also repeats a grey channel three times
        found: Features = {}
        for index in range(deepest + 1):
            x = self.features[index](x)
            if index in taps:
                found[taps[index]] = x
        return {name: found[name] for name in wanted}
