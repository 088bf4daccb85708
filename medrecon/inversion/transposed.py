"""Plain transposed-convolution decoder: the baseline of per-layer inversion (Dosovitskiy & Brox 2016)."""

from __future__ import annotations

from monai.networks.blocks import Convolution
from torch import nn

from medrecon.inversion.single import SingleLayerDecoder


class TransposedDecoder(SingleLayerDecoder):
    """Transposed convolutions with ReLU up to the image, then a sigmoid.

    Each kernel is twice its stride wide (4 for a stride of 2, as in DCGAN), so that neighbours overlap
    evenly. See `SingleLayerDecoder` for the arguments. Source: Dosovitskiy & Brox, Inverting Visual
    Representations with Convolutional Networks, CVPR 2016.
    """

    def stage(self, in_channels: int, out_channels: int, scale: tuple[int, ...]) -> nn.Module:
        """One transposed convolution and ReLU."""
        kernel = tuple(max(3, 2 * factor - factor % 2) for factor in scale)
        padding = tuple((size - factor) // 2 for size, factor in zip(kernel, scale, strict=True))
        return Convolution(
            len(scale),
            in_channels,
            out_channels,
            strides=scale,
            kernel_size=kernel,
            padding=padding,
            output_padding=0,
            is_transposed=True,
            act="RELU",
            norm=None,
        )
