"""What decoders of one layer share: which layer, the way up in stages, and the size of the result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn

from medrecon.contract import Decoder, Features, LayerInfo, Progress
from medrecon.errors import ModelError
from medrecon.inversion.given import features_given, layers_to_invert
from medrecon.inversion.upsample import fit_size


class SingleLayerDecoder(Decoder):
    """Inverts one layer: stages that undo its stride, a convolution to one channel, a sigmoid.

    A stage multiplies each axis by a prime factor of that axis' stride, so any stride works, other than
    powers of two and unequal axes too. The width halves from stage to stage. A latent vector (B, C) is a map
    of one position, of a layer whose stride is the size of the image.

    The sigmoid keeps the result in (0, 1): what lies outside the intensity window is out of reach.

    Args:
        layers: the encoder's layers.
        layer: the name of the one to invert; the last one when None.
        width: channels of the last stage.
        max_width: at most this many channels in the first stages.

    Raises:
        ModelError: the encoder has no such layer.
    """

    def __init__(
        self, layers: Sequence[LayerInfo], layer: str | None = None, width: int = 32, max_width: int = 256
    ) -> None:
        super().__init__()
        self.layer = layers_to_invert(layers, None if layer is None else [layer])[-1]
        self.names = [self.layer.name]
        self.spatial_dims = len(self.layer.stride)
        scales = stages(self.layer.stride)
        last = self.layer.channels
        self.up = nn.Sequential()
        for left, scale in zip(reversed(range(len(scales))), scales, strict=True):
            channels = min(max_width, width * 2**left)
            self.up.append(self.stage(last, channels, scale))
            last = channels
        self.out = Convolution(self.spatial_dims, last, 1, conv_only=True)

    @abstractmethod
    def stage(self, in_channels: int, out_channels: int, scale: tuple[int, ...]) -> nn.Module:
        """One step up: (B, in_channels, *size) -> (B, out_channels, *(size * scale))."""

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features of this decoder's layer.

        Args:
            features: {layer name: (B, C, *padded / stride), or (B, C) for a latent vector}.
            shape: spatial size of the image wanted.

        Returns:
            (B, 1, *shape), in (0, 1), float32.

        Raises:
            ModelError: features of other layers, of other channels, or too few for the shape.
        """
        (x,) = features_given(features, {self.layer.name: self.layer}).values()
        # Float before the sigmoid: bfloat16 would leave 8 bits to the image.
        return fit_to(torch.sigmoid(self.out(self.up(x)).float()), shape, self.layer.stride)


def stages(stride: Sequence[int]) -> list[tuple[int, ...]]:
    """Factors of each axis, stage by stage, at least one: (4, 6, 1) -> [(2, 2, 1), (2, 3, 1)]."""
    factors = [_primes(step) for step in stride]
    count = max(1, *(len(f) for f in factors))
    return [tuple(f[k] if k < len(f) else 1 for f in factors) for k in range(count)]


def fit_to(image: torch.Tensor, shape: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """Cut the far ends of (B, C, *spatial) to `shape`, or repeat them where less than a stride is missing.

    Raises:
        ModelError: a whole stride or more is missing along an axis, or the axes do not match.
    """
    size = tuple(image.shape[2:])
    if len(shape) != len(size) or any(w - s >= t for w, s, t in zip(shape, size, stride, strict=False)):
        raise ModelError(
            f"these features make an image of {size}, not {tuple(shape)}",
            remedy="ask for the size of the image that they come from",
        )
    return fit_size(image, shape)


def _primes(number: int) -> list[int]:
    """Prime factors, small to large."""
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found
