"""The own decoder: any subset of an encoder's levels, from one set of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medrecon.blocks.convolutions import CentredBlocks, ResidualBlock
from medrecon.blocks.dct import block_basis, synthesise
from medrecon.contract import Decoder, Features, LayerInfo, Progress
from medrecon.inversion.given import levels_given


class PyramidDecoder(Decoder):
    """Inverts `ConvEncoder`: the linear inverse of the shallowest level given, refined by all levels given.

    The refinement starts at the deepest level given, climbs to stride 4, takes in each level that is there on
    the way, sees the linear inverse at stride 4, and adds what it learned to it; it starts at zero. A level
    that is complete (one value per voxel) is inverted exactly and needs no refinement. Like the encoder's,
    the trunk has no bias and sees no absolute intensity.

    Args:
        layers: the encoder's levels, shallow to deep (`ConvEncoder.layers()`).
        widths: channels of the trunk at strides 4, 8 and 16.
        depth: residual blocks at stride 4.

    Raises:
        ValueError: when the layers are not those of a `ConvEncoder`.
    """

    names: list[str]

    def __init__(
        self, layers: Sequence[LayerInfo], widths: Sequence[int] = (96, 128, 256), depth: int = 3
    ) -> None:
        super().__init__()
        if [max(layer.stride) for layer in layers] != [2, 4, 8, 16] or len(widths) != 3:
            raise ValueError("PyramidDecoder wants four levels of strides 2, 4, 8, 16 and three widths")
        self.names = [layer.name for layer in layers]
        self.strides = {layer.name: layer.stride[0] for layer in layers}
        dims = self.spatial_dims = len(layers[0].stride)
        self.lossless = frozenset(layer.name for layer in layers if layer.values_per_voxel == 1)
        for layer in layers:
            basis = block_basis(layer.stride[0], dims, layer.channels)
            self.register_buffer(f"basis_{layer.name}", basis, persistent=False)
        conv, up = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
        level2, level3, level4 = self.names[1:]
        self.blocks4 = CentredBlocks(dims)
        self.stems = nn.ModuleDict(
            {name: conv(4**dims, widths[0], 3, padding=1, bias=False) for name in self.names[1:]}
        )
        sizes = dict(zip(self.names[1:], widths, strict=True))
        self.inputs = nn.ModuleDict()
        for layer in layers[1:]:
            kernel = 3 if layer.name == level4 else 1
            self.inputs[layer.name] = conv(
                layer.channels - 1, sizes[layer.name], kernel, padding=kernel // 2, bias=False
            )
        self.trunk = nn.ModuleDict(
            {
                level4: ResidualBlock(dims, widths[2], kernel_size=1),
                level3: ResidualBlock(dims, widths[1]),
                level2: nn.Sequential(*(ResidualBlock(dims, widths[0]) for _ in range(depth))),
            }
        )
        self.climb = nn.ModuleDict(
            {
                level4: up(widths[2], widths[1], 2, stride=2, bias=False),
                level3: up(widths[1], widths[0], 2, stride=2, bias=False),
            }
        )
        self.out = conv(widths[0], 4**dims, 3, padding=1, bias=False)
        nn.init.zeros_(self.out.weight)
        # Voxels beyond a block of stride 16. Stride 4: each residual block and the last convolution; then one
        # convolution at stride 8 and one at 16, each from the whole blocks that are reached by then.
        at8 = math.ceil((4 * depth + 4) / 8) * 8 + 8
        self.reach = math.ceil(at8 / 16) * 16 + 16

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: any non-empty subset of the levels, (B, C, *padded / stride) each.
            shape: spatial size of the image wanted; what lies beyond is cut off.

        Returns:
            (B, 1, *shape), in the units of the encoder's input.

        Raises:
            ModelError: when no level is given or a name is unknown.
        """
        given = levels_given(features, self.names)
        finest = given[0]
        base = synthesise(features[finest], self.get_buffer(f"basis_{finest}"), self.strides[finest])
        if finest not in self.lossless:
            base = base + self._refine(base, features, given)
        inside: tuple[Any, ...] = (..., *(slice(size) for size in shape))
        return base[inside]

    def _refine(self, base: torch.Tensor, features: Features, given: list[str]) -> torch.Tensor:
        hidden = None
        for name in reversed(self.names[1:]):
            if name in features:
                # In full precision: oneDNN's bfloat16 weight gradient of a 3x3x3 convolution over 2x2x2
                # positions can come out as NaN, and these few positions cost nothing.
                with torch.autocast(base.device.type, enabled=False):
                    added = self.inputs[name](features[name][:, 1:].float())
                hidden = added if hidden is None else hidden + added
            if name == self.names[1]:
                seen = self.stems[given[0]](self.blocks4(base))
                hidden = seen if hidden is None else hidden + seen
            if hidden is not None:
                hidden = self.trunk[name](hidden)
                hidden = self.climb[name](hidden) if name in self.climb else hidden
        correction = self.out(hidden)
        return synthesise(correction, self.blocks4.basis, self.blocks4.SIZE)
