"""The own decoder behind `AdaptiveEncoder`: what was kept comes back, the rest is foretold from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

from medrecon.blocks import CentredBlocks, ResidualBlock
from medrecon.cuts import slabs
from medrecon.dct import block_basis, from_parts, sub_blocks, synthesise, to_parts
from medrecon.inversion.given import levels_given
from medrecon.types import Features, LayerInfo

_AT_ONCE = 4096
"""Blocks that are put together at a time."""


class AdaptiveDecoder(nn.Module):
    """Inverts `AdaptiveEncoder`: the inverse transform of what is there, and a guess at what is not.

    Levels that are joined are merged: they hold the same coefficients, each its own share of them. A network
    of two scales (positions of 4 voxels, and the blocks) looks at the image so far and at which coefficients
    each block kept, and adds to those that are missing alone: a reconstruction always has the features that
    it was made from. It starts at zero. Levels that keep `enough` are inverted without it: what they leave
    out is noise, and guesses at noise are wrong.

    The network has no bias and sees no absolute intensity, so that f(a x + b) = a f(x) + b; what it learns of
    the sets kept multiplies.

    Args:
        layers: the encoder's levels (`AdaptiveEncoder.layers()`).
        widths: channels at positions of 4 voxels, and at the blocks.
        depth: residual blocks at positions of 4 voxels.
        coarse_depth: residual blocks at the blocks.
        enough: values per voxel from which on nothing is guessed.

    Raises:
        ValueError: when the layers are not those of an `AdaptiveEncoder`, or there are not two widths.
    """

    bytes_per_voxel = 36
    """Peak memory of encoder and decoder in 3D: 18 measured in bfloat16, 26 in float32."""

    def __init__(
        self,
        layers: Sequence[LayerInfo],
        widths: Sequence[int] = (96, 192),
        depth: int = 2,
        coarse_depth: int = 3,
        enough: float = 0.5,
    ) -> None:
        super().__init__()
        strides, channels = {layer.stride for layer in layers}, {layer.channels for layer in layers}
        dims, size = len(layers[0].stride), layers[0].stride[0]
        if len(strides) != 1 or channels != {size**dims} or size % CentredBlocks.SIZE:
            raise ValueError("AdaptiveDecoder wants levels of one stride, each with a channel for each voxel")
        if len(widths) != 2:
            raise ValueError(f"AdaptiveDecoder wants two widths, got {tuple(widths)}")
        self.names = [layer.name for layer in layers]
        self.linear = {layer.name for layer in layers if layer.values_per_voxel >= enough}
        self.spatial_dims, self.size = dims, size
        self.basis: torch.Tensor
        self.register_buffer("basis", block_basis(size, dims, size**dims), persistent=False)
        conv, up = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
        fine, coarse = widths
        ratio = self.ratio = size // CentredBlocks.SIZE
        parts = sub_blocks(size, CentredBlocks.SIZE, dims)
        parts[0] = 0  # see `_split`
        self.parts: torch.Tensor
        self.register_buffer("parts", parts, persistent=False)
        details = size**dims - 1
        self.blocks4 = CentredBlocks(dims)
        self.stem = conv(4**dims, fine, 3, padding=1, bias=False)
        self.down = conv(fine, coarse, ratio, stride=ratio, bias=False)
        self.kept = conv(details, coarse, 1, bias=False)
        self.gate = conv(details, coarse, 1)
        self.coarse = nn.Sequential(*(ResidualBlock(dims, coarse) for _ in range(coarse_depth)))
        self.up = up(coarse, fine, ratio, stride=ratio, bias=False)
        self.fine = nn.Sequential(*(ResidualBlock(dims, fine) for _ in range(depth)))
        self.out = conv(fine, 4**dims, 3, padding=1, bias=False)
        self.guess = conv(coarse, details, 1, bias=False)
        for last in (self.out, self.guess):
            nn.init.zeros_(last.weight)
        # Positions of 4 seen beyond one, in blocks; the coarse blocks; then stem and centring, in blocks.
        self.reach = size * (math.ceil((depth + 1) / ratio) + coarse_depth + math.ceil(2 / ratio))

    def forward(self, features: Features, shape: Sequence[int]) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: any non-empty subset of the levels, (B, channels, *blocks) each.
            shape: spatial size of the image wanted; what lies beyond is cut off.

        Returns:
            (B, 1, *shape), in the units of the encoder's input.

        Raises:
            ModelError: when no level is given or a name is unknown.
        """
        given = levels_given(features, self.names)
        rows = features[given[0]].to(self.basis.dtype).movedim(1, -1)
        for name in given[1:]:
            rows = torch.where(rows == 0, features[name].to(rows.dtype).movedim(1, -1), rows)
        inside: tuple[Any, ...] = (..., *(slice(n) for n in shape))
        guesses = None if self.linear.intersection(given) else self._guesses(rows)
        parts = slabs(rows.shape[:-1], _AT_ONCE)
        if len(parts) == 1:
            return self._synthesised(rows, guesses)[inside]
        # some blocks after the other: what is at work stays in the processor's cache
        image = rows.new_empty((rows.shape[0], 1, *(n * self.size for n in rows.shape[1:-1])))
        for part in parts:
            voxels = slice(part.start * self.size, part.stop * self.size)
            image[:, :, voxels] = self._synthesised(rows[:, part], guesses and guesses.of(part))
        return image[inside]

    def _synthesised(self, rows: torch.Tensor, guesses: _Guesses | None) -> torch.Tensor:
        """(B, *blocks, channels) -> (B, 1, *spatial), the guesses put in where nothing was kept."""
        if guesses is not None:
            drawn = to_parts(guesses.fine, self.ratio).flatten(0, -2) @ self.parts.T
            weight = self.guess.weight
            weights = functional.pad(weight.reshape(weight.shape[:2]).T, (1, 0))
            guess = (drawn + guesses.coarse.flatten(0, -2) @ weights).reshape(rows.shape)
            rows = torch.where(_is_kept(rows), rows, guess.to(rows.dtype))
        return synthesise(rows.movedim(-1, 1), self.basis, self.size)

    def _guesses(self, rows: torch.Tensor) -> _Guesses:
        """What the network makes of (B, *blocks, channels) with zeros where nothing was kept."""
        kind = rows.device.type
        low = rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows
        fine = self.stem(self._split(low, rows[..., 0]))
        coarse = self.down(fine) + _each(self.kept, low)
        coarse = self.coarse(coarse * (1 + _each(self.gate, _is_kept(rows).to(low.dtype))))
        del low
        fine = self.up(coarse).add_(fine)
        for block in self.fine:
            fine = block(fine)
        return _Guesses(self.out(fine).movedim(1, -1), coarse.movedim(1, -1).contiguous(), self.ratio)

    def _split(self, rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """What `CentredBlocks` gives of the image behind (B, *blocks, channels): (B, 4 ** dims, *positions).

        One change of basis instead of the way through voxels. The blocks' means (B, *blocks) go beside it in
        full precision: relative to what lies around they are small.
        """
        parts = from_parts(rows @ self.parts, self.ratio, self.spatial_dims)
        for axis in range(1, mean.ndim):
            mean = mean.repeat_interleave(self.ratio, axis)
        mean = mean * self.ratio ** (-self.spatial_dims / 2) + parts[..., 0]
        parts[..., 0] = self.blocks4.centred(mean[:, None])[:, 0]
        return parts.movedim(-1, 1)


@dataclass(frozen=True)
class _Guesses:
    """The network's last features: at positions of 4 voxels (B, *positions, C), and at the blocks."""

    fine: torch.Tensor
    coarse: torch.Tensor
    ratio: int

    def of(self, part: slice) -> _Guesses:
        """Those of some rows of blocks."""
        finer = slice(part.start * self.ratio, part.stop * self.ratio)
        return _Guesses(self.fine[:, finer], self.coarse[:, part], self.ratio)


def _is_kept(rows: torch.Tensor) -> torch.Tensor:
    """Which coefficients were kept; the means always are."""
    kept = rows != 0
    kept[..., 0] = True
    return kept


def _each(conv: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """A convolution of one position, of all coefficients but the mean: (B, *blocks, C) -> (B, K, *blocks)."""
    weight: torch.Tensor = conv.get_parameter("weight")
    bias: torch.Tensor | None = getattr(conv, "bias", None)
    made = rows @ functional.pad(weight.reshape(weight.shape[:2]), (1, 0)).T
    return (made if bias is None else made + bias).movedim(-1, 1)
