"""ResNet-18, 34 and 50 as feature encoders of slices (He et al. 2016, arXiv:1512.03385)."""

from __future__ import annotations

from pathlib import Path

import torch

from medrecon.encoders.adapt import IMAGENET, ChannelMeanStd
from medrecon.encoders.residual import Plan, ResidualEncoder
from medrecon.errors import ModelError

NORMALISATIONS = {"torchvision": IMAGENET, "symmetric": ((0.5,) * 3, (0.5,) * 3)}
"""Mean and standard deviation of red, green, blue in [0, 1] that a training run subtracted and divided by."""


class ResNetEncoder(ResidualEncoder):
    """The convolutions of torchvision's ResNets, frozen: `stem`, `layer1.0`, ... `layer1` ... `layer4`.

    The state dict has torchvision's keys (`conv1.weight`, `layer1.0.conv1.weight` ...). Every layer follows a
    ReLU; strides are 2 (stem), 4, 8, 16 and 32. `layer1` is the last block of its stage.

    Args:
        depth: 18, 34 or 50.
        weights: a safetensors or torch file with torchvision's keys (its `fc.*` may be there, and is not
            used), or None for random weights.
        sha256: expected SHA-256 of that file, None for any.
        normalisation: what the weights were trained with: "torchvision" (mean and deviation of ImageNet's
            colours) or "symmetric" (0 to 1 becomes -1 to 1).

    Raises:
        ModelError: unknown depth or normalisation, or weights that are not exactly this network's.
    """

    def __init__(
        self,
        depth: int = 18,
        weights: str | Path | None = None,
        sha256: str | None = None,
        normalisation: str = "torchvision",
    ) -> None:
        if depth not in (18, 34, 50):
            raise ModelError(f"torchvision's keys fit no ResNet-{depth} here", remedy="choose 18, 34 or 50")
        if normalisation not in NORMALISATIONS:
            known = " or ".join(NORMALISATIONS)
            raise ModelError(f"there is no normalisation {normalisation!r}", remedy=f"choose {known}")
        super().__init__(depth, Plan(spatial_dims=2, channels=3), in_channels=(1, 3))
        self.intensity = ChannelMeanStd(*NORMALISATIONS[normalisation])
        if weights is not None:
            self.load(weights, sha256, unused=("fc.",))
        self.freeze()

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Three channels, less the mean colour, over its deviation; one channel is taken as grey."""
        normalised: torch.Tensor = self.intensity(image)
        return normalised
