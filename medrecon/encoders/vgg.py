"""VGG16 and VGG19 as feature encoders of slices (Simonyan & Zisserman 2015, arXiv:1409.1556)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from medrecon.blocks.padding import pad_to_multiple
from medrecon.blocks.weights import fit_weights, read_weights
from medrecon.contract import LayerInfo
from medrecon.encoders.adapt import CAFFE, IMAGENET, ChannelMeanStd
from medrecon.encoders.staged import StagedEncoder
from medrecon.errors import ModelError

BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five blocks: configurations D and E of the paper."""

CHANNELS = (64, 128, 256, 512, 512)

NORMALISATIONS = {"caffe": CAFFE, "torchvision": IMAGENET}
"""Mean and standard deviation of red, green, blue in [0, 1] that a training run subtracted and divided by."""


class VGGEncoder(StagedEncoder):
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

    def __init__(
        self,
        depth: int = 16,
        weights: str | Path | None = None,
        sha256: str | None = None,
        normalisation: str = "caffe",
    ) -> None:
        super().__init__(2, (1, 3))
        if depth not in BLOCKS:
            raise ModelError(f"there is no VGG{depth} here", remedy="choose depth 16 or 19")
        if normalisation not in NORMALISATIONS:
            known = " or ".join(NORMALISATIONS)
            raise ModelError(f"there is no normalisation {normalisation!r}", remedy=f"choose {known}")
        self.intensity = ChannelMeanStd(*NORMALISATIONS[normalisation])
        self.features = nn.Sequential()
        self._infos: dict[int, LayerInfo] = {}
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
                self._infos[len(self.features) - 1] = info
            self.features.append(nn.MaxPool2d(kernel_size=2, stride=2))
            field, stride = field + stride, 2 * stride

    def layers(self) -> list[LayerInfo]:
        """The thirteen (sixteen) ReLU layers, shallow to deep."""
        return list(self._infos.values())

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Three channels as the weights expect them; one channel is taken as grey.

        The far ends are repeated up to a multiple of 16, the deepest stride, so that pooling loses no row of
        an odd size and a layer does not depend on its company.
        """
        normalised: torch.Tensor = self.intensity(pad_to_multiple(image, 16))
        return normalised

    def stages(self) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
        """Convolutions, ReLUs and poolings; each ReLU ends a layer."""
        for place, module in enumerate(self.features):
            yield (self._infos[place].name,) if place in self._infos else (), module
