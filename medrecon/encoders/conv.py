"""The own encoder: the low frequencies of each block, and what a convolutional trunk adds to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medrecon.blocks.convolutions import CentredBlocks, ResidualBlock
from medrecon.blocks.dct import analyse, block_basis
from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.naming import resolve_layers


class ConvEncoder(Encoder):
    """Four levels, `level1` ... `level4`, of strides 2, 4, 8 and 16, in 2D or 3D.

    Each level holds the lowest frequencies of its blocks (an orthonormal DCT, so that an error in a feature
    is as large in the image), corrected by a trunk of convolutions at strides 4, 8 and 16. The corrections
    start at zero: untrained, the encoder is the linear code itself. A level that holds one value per voxel is
    complete: it needs no correction and gets none.

    The trunk has no bias and sees no absolute intensity, so the encoder follows any change of window: with
    f(x) the features' corrections, f(a x + b) = a f(x) for a > 0. It takes no statistics over the window.

    Args:
        spatial_dims: 2 or 3.
        values_per_voxel: how much each level keeps; the channels follow from it.
        widths: channels of the trunk at strides 4, 8 and 16.

    Raises:
        ValueError: when the numbers do not describe four levels.
    """

    STRIDES = (2, 4, 8, 16)

    def __init__(
        self,
        spatial_dims: int,
        values_per_voxel: Sequence[float] = (1, 1 / 2, 3 / 16, 1 / 16),
        widths: Sequence[int] = (96, 128, 256),
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3) or len(values_per_voxel) != 4 or len(widths) != 3:
            raise ValueError("ConvEncoder wants 2 or 3 spatial_dims, four values_per_voxel and three widths")
        if not all(0 < v <= 1 for v in values_per_voxel):
            raise ValueError(f"values_per_voxel must lie in (0, 1], got {tuple(values_per_voxel)}")
        self.spatial_dims = spatial_dims
        self.channels = tuple(
            max(1, round(v * s**spatial_dims)) for v, s in zip(values_per_voxel, self.STRIDES, strict=True)
        )
        for level, (stride, count) in enumerate(zip(self.STRIDES, self.channels, strict=True), start=1):
            basis = block_basis(stride, spatial_dims, count)
            self.register_buffer(f"basis{level}", basis, persistent=False)
        conv = Conv[Conv.CONV, spatial_dims]
        self.blocks4 = CentredBlocks(spatial_dims)
        self.trunk = nn.ModuleList(
            [
                nn.Sequential(
                    conv(4**spatial_dims, widths[0], 3, padding=1, bias=False),
                    ResidualBlock(spatial_dims, widths[0]),
                ),
                nn.Sequential(
                    conv(widths[0], widths[1], 2, stride=2, bias=False),
                    ResidualBlock(spatial_dims, widths[1]),
                ),
                nn.Sequential(
                    conv(widths[1], widths[2], 2, stride=2, bias=False),
                    ResidualBlock(spatial_dims, widths[2], kernel_size=1),
                ),
            ]
        )
        self.heads = nn.ModuleList(
            conv(width, count, 1, bias=False) for width, count in zip(widths, self.channels[1:], strict=True)
        )
        for head in self.heads:
            nn.init.zeros_(head.get_parameter("weight"))

    def layers(self) -> list[LayerInfo]:
        """The four levels, shallow to deep."""
        # Stride 4: centring, first convolution and residual block reach one position each to either side;
        # stride 8: its residual block does; stride 16 reaches no further than its own block.
        fields = (2, 4 + 3 * 8, 4 + 3 * 8 + 4 + 16, 4 + 3 * 8 + 4 + 16 + 8)
        dims = self.spatial_dims
        return [
            LayerInfo(f"level{k}", count, (stride,) * dims, (stride if self._complete(k) else field,) * dims)
            for k, (stride, count, field) in enumerate(
                zip(self.STRIDES, self.channels, fields, strict=True), start=1
            )
        ]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of the chosen levels.

        Args:
            image: (B, 1, *spatial) in [0, 1] of any size; its far ends are repeated up to a multiple of 16.
            names: levels to compute; all of them when None.

        Raises:
            ModelError: when a name is not one of the levels.
        """
        wanted = resolve_layers(names, [f"level{k}" for k in range(1, 5)])
        image = pad_to_multiple(image, self.STRIDES[-1])
        features: Features = {}
        hidden = None
        for k in range(1, max(int(name[5:]) for name in wanted) + 1):
            if k > 1 and not all(self._complete(int(name[5:])) for name in wanted):
                hidden = self.trunk[k - 2](self.blocks4(image) if hidden is None else hidden)
            if f"level{k}" not in wanted:
                continue
            coefficients = analyse(image, self.get_buffer(f"basis{k}"), self.STRIDES[k - 1])
            if not self._complete(k):
                coefficients = coefficients + self.heads[k - 2](hidden)
            features[f"level{k}"] = coefficients
        return features

    def _complete(self, level: int) -> bool:
        return self.channels[level - 1] == self.STRIDES[level - 1] ** self.spatial_dims


def pad_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the far ends of (B, C, *spatial) until each axis is a multiple of `multiple`."""
    for axis, size in enumerate(image.shape[2:], start=2):
        if size % multiple:
            sides = [1] * image.ndim
            sides[axis] = -size % multiple
            image = torch.cat([image, image.narrow(axis, size - 1, 1).repeat(sides)], dim=axis)
    return image
