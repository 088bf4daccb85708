"""Building blocks that the own encoder and the decoders share: no statistics over the window."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu_,
    "leaky_relu": functional.leaky_relu_,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class ResidualBlock(nn.Module):
    """x + mix(act(conv(x))): one spatial convolution, so that the receptive field grows by one position.

    Raises:
        KeyError: an activation that is not in `ACTIVATIONS`.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        kernel_size: int = 3,
        bias: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv = conv(channels, channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.mix = conv(channels, channels, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, *S) -> (B, C, *S)."""
        return self.joined(self.conv(x), x)

    def joined(self, convolved: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What comes after the convolution of `x`, which is overwritten."""
        made: torch.Tensor = self.mix(self.activation(convolved))
        return made.add_(x)


def centred(mean: torch.Tensor) -> torch.Tensor:
    """(B, 1, *positions) less the mean over a position and its neighbours, of those that there are."""
    pool = functional.avg_pool2d if mean.ndim == 4 else functional.avg_pool3d
    sides = [1] * 2 * (mean.ndim - 2)  # torch's own padding wants three positions or more along each axis
    there = functional.pad(torch.ones_like(mean), sides)
    around: torch.Tensor = pool(functional.pad(mean, sides), 3, 1) / pool(there, 3, 1)
    return mean - around
