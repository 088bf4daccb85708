"""The own encoder: a hierarchy of convolutions, each level computed from the one before."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medrecon.blocks.convolutions import ResidualBlock
from medrecon.blocks.padding import pad_to_multiple
from medrecon.blocks.pyramid import down, pyramid_kernels, without_means
from medrecon.blocks.rolling import RollingBlocks, Rows
from medrecon.blocks.tiles import slabs
from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.naming import resolve_layers

_CHANNELS = {2: (4, 8, 12, 16, 16), 3: (8, 32, 96, 256, 512)}

_AT_ONCE = 1 << 15
"""Positions of stride 4 that are at work at a time: they stay in the processor's cache."""


class HierarchicalEncoder(Encoder):
    """Levels `level1`, `level2` ... at strides 2, 4, 8 ..., in 2D or 3D: dense feature maps.

    `level1` is Haar's transform of the image and holds all of it. Each other level is computed from the level
    before and nothing else, so what it does not keep the deeper ones cannot have: a strided convolution that
    takes the lowest frequencies (`medrecon.blocks.pyramid`; parameter-free shortcuts make deep autoencoders
    train: Chen et al. 2024, arXiv:2410.10733, with Haar's transform in front as Sadat et al. 2024,
    arXiv:2405.14477) and what a residual network adds to it. The network starts at zero: untrained, a level
    holds what a block DCT of as many values does.

    The network has no bias and sees no absolute intensity: f(a x + b) is a f(x) for a > 0, but for channel 0,
    the means, which move by b. It takes no statistics over the window.

    Args:
        spatial_dims: 2 or 3.
        channels: of each level, by default 1, 1/2, 3/16, 1/16 and 1/64 values for each voxel.
        widths: of the network that makes each level after the first.

    Raises:
        ValueError: other dimensions, other numbers of widths and levels, or a level larger than the last.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int] | None = None,
        widths: Sequence[int] = (48, 128, 256, 256),
    ) -> None:
        super().__init__()
        if spatial_dims not in _CHANNELS:
            raise ValueError(f"HierarchicalEncoder wants 2 or 3 spatial_dims, got {spatial_dims}")
        self.channels = tuple(channels or _CHANNELS[spatial_dims])
        if len(widths) != len(self.channels) - 1 or not widths:
            raise ValueError("HierarchicalEncoder wants two channels or more, and a width less than channels")
        self.spatial_dims = spatial_dims
        self.names = [f"level{k}" for k in range(1, len(self.channels) + 1)]
        for name, kernel in zip(self.names, pyramid_kernels(spatial_dims, self.channels), strict=True):
            self.register_buffer(f"kernel_{name}", kernel, persistent=False)
        conv = Conv[Conv.CONV, spatial_dims]
        self.trunks, self.heads = nn.ModuleDict(), nn.ModuleDict()
        pairs = zip(self.names[1:], itertools.pairwise(self.channels), widths, strict=True)
        for name, (before, count), width in pairs:
            # the deepest level looks at its own parts alone: else tiles would need a wide margin
            around = 1 if name == self.names[-1] else 3
            self.trunks[name] = nn.Sequential(
                conv(before, width, 2, stride=2, bias=False), ResidualBlock(spatial_dims, width, around)
            )
            self.heads[name] = conv(width, count, 1, bias=False)
            nn.init.zeros_(self.heads[name].get_parameter("weight"))

    def layers(self) -> list[LayerInfo]:
        """The levels, shallow to deep."""
        infos, field = [], 1
        for name, count, stride in zip(self.names, self.channels, self._strides, strict=True):
            field += stride // 2
            if name in self.names[1:-1]:
                field += 2 * stride
            dims = len(self._kernel(name).shape) - 2
            infos.append(LayerInfo(name, count, (stride,) * dims, (field,) * dims))
        return infos

    @property
    def _strides(self) -> list[int]:
        return [2**k for k in range(1, len(self.names) + 1)]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of the chosen levels; computes nothing beyond the deepest of them.

        Args:
            image: (B, 1, *spatial) of any size; its far ends are repeated up to a multiple of the deepest
                stride.
            names: levels to compute; all of them when None.

        Returns:
            (B, channels, *padded / stride) for each level, float32.

        Raises:
            ModelError: when a name is not one of the levels.
        """
        wanted = resolve_layers(names, self.names)
        image = pad_to_multiple(image, self._strides[-1])
        features: Features = {}
        if self.names[0] in wanted:
            features[self.names[0]] = down(image, self._kernel(self.names[0]))
        deeper = self.names[1 : 1 + max(self.names.index(name) for name in wanted)]
        x = image
        for name in deeper:
            x = self._second(image) if name == self.names[1] else self._next(name, x)
            if name in wanted:
                features[name] = x
        return {name: features[name] for name in wanted}

    def _kernel(self, name: str) -> torch.Tensor:
        return self.get_buffer(f"kernel_{name}")

    def _next(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A level from the one before."""
        made = down(x, self._kernel(name))
        # oneDNN's bfloat16 gradient is wrong where an axis has two positions, as the deepest level of a patch
        mixed = torch.is_autocast_enabled(x.device.type) and name != self.names[-1]
        with torch.autocast(x.device.type, enabled=mixed):
            added: torch.Tensor = self.heads[name](self.trunks[name](without_means(x, made)))
        return made + added

    def _second(self, image: torch.Tensor) -> torch.Tensor:
        """The second level from the image, row after row: the first, which is large, is not held."""
        name, grid = self.names[1], (image.shape[0], *(n // 4 for n in image.shape[2:]))
        parts = slabs(grid, _AT_ONCE)
        if torch.is_grad_enabled() or len(parts) == 1 or len(self.names) == 2:
            return self._next(name, down(image, self._kernel(self.names[0])))
        level = image.new_empty((grid[0], self.channels[1], *grid[1:]), dtype=torch.float32)
        trunk: Any = self.trunks[name]
        blocks, kept, done = RollingBlocks(trunk[1:]), Rows(), 0
        for part in parts:
            first = down(image[:, :, part.start * 4 : part.stop * 4], self._kernel(self.names[0]))
            made = down(first, self._kernel(name))
            kept.put(made)
            hidden = blocks(trunk[0](without_means(first, made)), part is parts[-1])
            if hidden is not None:
                rows = hidden.shape[2]
                level[:, :, done : done + rows] = kept.take(rows) + self.heads[name](hidden)
                done += rows
        return level
