"""The encoder half of a plain convolutional autoencoder: the baseline that the field starts from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Pool
from torch import nn

from medrecon.blocks.padding import pad_to_multiple
from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.naming import resolve_layers
from medrecon.errors import ModelError


class PlainEncoder(Encoder):
    """Convolution, ReLU, max-pool, repeated: `level1` (stride 2), `level2` (stride 4) and so on.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        channels: feature maps of each level. By default four levels, the deepest with 1/16 value per voxel
            (16 maps in 2D, 256 in 3D), the size of latent that the other autoencoders here have.

    Raises:
        ModelError: another number of dimensions, or no level.
    """

    def __init__(
        self, spatial_dims: int = 3, in_channels: int = 1, channels: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ModelError(f"images have 2 or 3 dimensions, not {spatial_dims}", remedy="set spatial_dims")
        widths = tuple(channels) if channels is not None else (32, 64, 128, 16**spatial_dims // 16)
        if not widths:
            raise ModelError("an encoder needs at least one level", remedy="give the channels of each level")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.levels = nn.ModuleDict()
        self._infos: list[LayerInfo] = []
        last, stride, field = in_channels, 1, 1
        for number, width in enumerate(widths, start=1):
            self.levels[f"level{number}"] = nn.Sequential(
                Convolution(spatial_dims, last, width, act="RELU", norm=None),
                Pool[Pool.MAX, spatial_dims](kernel_size=2),
            )
            field, stride, last = field + 3 * stride, 2 * stride, width
            self._infos.append(
                LayerInfo(f"level{number}", width, (stride,) * spatial_dims, (field,) * spatial_dims)
            )

    def layers(self) -> list[LayerInfo]:
        """The levels, shallow to deep."""
        return list(self._infos)

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image`; computes nothing beyond the deepest level asked for.

        Args:
            image: (B, in_channels, *spatial), [0, 1]; its far ends are repeated up to a multiple of the
                deepest stride.
            names: levels, all when None.

        Returns:
            name -> (B, channels, *padded / stride).

        Raises:
            ModelError: a level that does not exist, or an image of another form.
        """
        wanted = resolve_layers(names, self.levels)
        if image.ndim != self.spatial_dims + 2 or image.shape[1] != self.in_channels:
            axes = ", ".join("XYZ"[: self.spatial_dims])
            raise ModelError(
                f"this encoder takes (B, {self.in_channels}, {axes}), not {tuple(image.shape)}",
                remedy="give it an image of that form",
            )
        deepest = max(list(self.levels).index(name) for name in wanted)
        x, found = pad_to_multiple(image, self._infos[-1].stride[0]), Features()
        for index, (name, level) in enumerate(self.levels.items()):
            if index > deepest:
                break
            x = found[name] = level(x)
        return {name: found[name] for name in wanted}
