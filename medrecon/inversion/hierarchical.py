"""The own decoder: from the deepest level given up to the image, level by level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medrecon.blocks.convolutions import ResidualBlock, centred
from medrecon.blocks.pyramid import pyramid_kernels, up
from medrecon.blocks.rolling import Rolling, RollingBlocks
from medrecon.blocks.tiles import slabs
from medrecon.contract import Decoder, Features, LayerInfo, Progress
from medrecon.inversion.given import levels_given

_AT_ONCE = 1 << 15
"""Positions of stride 4 that are at work at a time: they stay in the processor's cache."""


class HierarchicalDecoder(Decoder):
    """Inverts `HierarchicalEncoder`: estimates each level from the one behind it, at last the image.

    The estimate begins at the linear inverse (the transposed strided convolution) and a residual network adds
    to it what it learned; it starts at zero. The network of a stage sees the level, given or estimated, and
    what the deeper stage saw. A level that is given takes the place of its estimate. `level1` holds the whole
    image and is inverted exactly, without a network.

    Like the encoder's, the network has no bias and sees no absolute intensity.

    Args:
        layers: the encoder's levels (`HierarchicalEncoder.layers()`).
        widths: of the network at each level after the first.
        depths: its residual blocks.

    Raises:
        ValueError: the layers are not those of a `HierarchicalEncoder`, or widths and depths do not match.
    """

    names: list[str]
    bytes_per_voxel = 20
    """Peak memory of encoder and decoder in 3D: 14 measured in bfloat16."""

    def __init__(
        self,
        layers: Sequence[LayerInfo],
        widths: Sequence[int] = (64, 128, 256, 256),
        depths: Sequence[int] = (2, 2, 2, 1),
    ) -> None:
        super().__init__()
        dims = self.spatial_dims = len(layers[0].stride)
        strides = [2**k for k in range(1, len(layers) + 1)]
        if [layer.stride for layer in layers] != [(stride,) * dims for stride in strides] or len(layers) < 2:
            raise ValueError("HierarchicalDecoder wants two levels or more, of strides 2, 4, 8 ...")
        if not len(widths) == len(depths) == len(layers) - 1:
            raise ValueError("HierarchicalDecoder wants a width and a depth less than there are levels")
        self.names = [layer.name for layer in layers]
        self.lossless = frozenset(self.names[:1])
        channels = [layer.channels for layer in layers]
        for name, kernel in zip(self.names, pyramid_kernels(dims, channels), strict=True):
            self.register_buffer(f"kernel_{name}", kernel, persistent=False)
        self.stems, self.trunks = nn.ModuleDict(), nn.ModuleDict()
        self.outs, self.climbs = nn.ModuleDict(), nn.ModuleDict()
        conv, climb = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
        self.reach, finer = 0, 0
        stages = zip(self.names[1:], strides[1:], itertools.pairwise(channels), widths, depths, strict=True)
        for name, stride, (before, count), width, depth in stages:
            stem = 3 if name == self.names[1] else 1
            around = 1 if name == self.names[-1] else 3
            # a stem for each level that the estimate can come from: what they miss differs
            self.stems[name] = nn.ModuleDict(
                {
                    source: conv(count, width, stem, padding=stem // 2, bias=False)
                    for source in self.names[self.names.index(name) :]
                }
            )
            self.trunks[name] = nn.Sequential(*(ResidualBlock(dims, width, around) for _ in range(depth)))
            self.outs[name] = climb(width, before, 2, stride=2, bias=False)
            nn.init.zeros_(self.outs[name].get_parameter("weight"))
            if finer:
                self.climbs[name] = climb(width, finer, 2, stride=2, bias=False)
            # whole positions of this stride, and those seen beyond: centring, stem and blocks
            positions = math.ceil(self.reach / stride) + 1 + stem // 2 + (around // 2) * depth
            self.reach, finer = stride * positions, width

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: any non-empty subset of the levels, (B, channels, *padded / stride) each.
            shape: spatial size of the image wanted; what lies beyond is cut off.
            progress: told (rows of positions done, rows in all), where the image is large.

        Returns:
            (B, 1, *shape), in the units of the encoder's input.

        Raises:
            ModelError: when no level is given or a name is unknown.
        """
        given = levels_given(features, self.names)
        if given[0] == self.names[0]:
            image = up(features[given[0]], self._kernel(given[0]))
        else:
            x, source = features[given[-1]], given[-1]
            hidden: torch.Tensor | None = None
            for name in reversed(self.names[2 : self.names.index(source) + 1]):
                if name in given:
                    x, source = features[name], name
                x, hidden = self._climbed(name, source, x, hidden)
            if self.names[1] in given:
                x, source = features[self.names[1]], self.names[1]
            image = self._finest(x.float(), source, hidden, progress)
        inside: tuple[Any, ...] = (..., *(slice(size) for size in shape))
        return image[inside]

    def _kernel(self, name: str) -> torch.Tensor:
        return self.get_buffer(f"kernel_{name}")

    def _climbed(
        self, name: str, source: str, x: torch.Tensor, hidden: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The level before `name`, as it is estimated from it, and what the network of that level is told."""
        x = x.float()
        # oneDNN's bfloat16 gradient is wrong where an axis has two positions, as the deepest level of a patch
        mixed = torch.is_autocast_enabled(x.device.type) and name != self.names[-1]
        with torch.autocast(x.device.type, enabled=mixed):
            seen = self.stems[name][source](_details(x))  # type: ignore[index]
            hidden = self.trunks[name](seen if hidden is None else seen + hidden.to(seen.dtype))
            return up(x, self._kernel(name)) + self.outs[name](hidden), self.climbs[name](hidden)

    def _finest(
        self, x: torch.Tensor, source: str, hidden: torch.Tensor | None, progress: Progress | None
    ) -> torch.Tensor:
        """The image, from the level of stride 4: some rows after the other."""
        grid = (x.shape[0], *x.shape[2:])
        parts = slabs(grid, _AT_ONCE)
        if torch.is_grad_enabled() or len(parts) == 1:
            seen = self.stems[self.names[1]][source](_details(x))  # type: ignore[index]
            return self._image(x, self.trunks[self.names[1]](seen if hidden is None else seen + hidden))
        image = x.new_empty((grid[0], 1, *(n * 4 for n in grid[1:])))
        done = 0
        for rows in self._rows(x, source, hidden, parts):
            first = slice(done, done + rows.shape[2])
            image[:, :, first.start * 4 : first.stop * 4] = self._image(x[:, :, first], rows)
            done = first.stop
            if progress is not None:
                progress(done, grid[1])
        return image

    def _rows(
        self, x: torch.Tensor, source: str, hidden: torch.Tensor | None, parts: Sequence[slice]
    ) -> Iterator[torch.Tensor]:
        """What the network of stride 4 makes, (B, width, rows, ...), first row to last."""
        details_of_means = centred(x[:, :1])
        stem = Rolling(self.stems[self.names[1]][source])  # type: ignore[index]
        trunk: Any = self.trunks[self.names[1]]
        blocks, done = RollingBlocks(trunk), 0
        for part in parts:
            last = part is parts[-1]
            told = stem(torch.cat([details_of_means[:, :, part], x[:, 1:, part]], dim=1), last)
            if told is None:
                continue
            seen = told[0]
            if hidden is not None:
                seen = seen + hidden[:, :, done : done + seen.shape[2]]
            done += seen.shape[2]
            if (made := blocks(seen, last)) is not None:
                yield made

    def _image(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """(B, C, *positions) of stride 4, and what the network made of them -> (B, 1, *positions * 4)."""
        first = up(x, self._kernel(self.names[1])) + self.outs[self.names[1]](hidden)
        return up(first, self._kernel(self.names[0]))


def _details(x: torch.Tensor) -> torch.Tensor:
    """A level without absolute intensity: its means relative to those around."""
    return torch.cat([centred(x[:, :1]), x[:, 1:]], dim=1)
