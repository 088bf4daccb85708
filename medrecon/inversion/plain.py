"""The decoder half of a plain convolutional autoencoder: the baseline that the field starts from."""

from __future__ import annotations

from monai.networks.blocks import Convolution, UpSample
from torch import nn

from medrecon.inversion.single import SingleLayerDecoder


class PlainDecoder(SingleLayerDecoder):
    """Convolution, ReLU, nearest-neighbour upsampling, repeated, then a sigmoid.

    The convolution comes first, where there are fewer positions to compute it at. See
    `SingleLayerDecoder` for the arguments.
    """

    def stage(self, in_channels: int, out_channels: int, scale: tuple[int, ...]) -> nn.Module:
        """One convolution, ReLU and upsampling."""
        dims = len(scale)
        return nn.Sequential(
            Convolution(dims, in_channels, out_channels, act="RELU", norm=None),
            UpSample(
                dims,
                out_channels,
                out_channels,
                scale_factor=scale,
                mode="nontrainable",
                interp_mode="nearest",
                align_corners=None,
                pre_conv=None,
            ),
        )
