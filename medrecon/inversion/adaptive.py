"""The own decoder behind `AdaptiveEncoder`: what was kept comes back, the rest is foretold from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

from medrecon.blocks.convolutions import ResidualBlock, centred
from medrecon.blocks.dct import block_basis, from_parts, sub_blocks, synthesise, to_parts
from medrecon.blocks.rolling import Rolling, RollingBlocks, Rows
from medrecon.blocks.tiles import slabs
from medrecon.contract import Decoder, Features, LayerInfo, Progress
from medrecon.inversion.given import levels_given

_AT_ONCE = 4096
"""Blocks that are put together at a time."""


_BLOCK = 4
"""Side of the blocks that the fine scale looks at, in voxels."""


class AdaptiveDecoder(Decoder):
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

    names: list[str]
    bytes_per_voxel = 20
    """Peak memory of encoder and decoder in 3D: 12 measured in bfloat16, 14 in float32, 4 more a level."""

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
        if len(strides) != 1 or channels != {size**dims} or size % _BLOCK:
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
        ratio = self.ratio = size // _BLOCK
        parts = sub_blocks(size, _BLOCK, dims)
        parts[0] = 0  # see `_split`
        self.parts: torch.Tensor
        self.register_buffer("parts", parts, persistent=False)
        details = size**dims - 1
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

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: any non-empty subset of the levels, (B, channels, *blocks) each.
            shape: spatial size of the image wanted; what lies beyond is cut off.
            progress: told (rows of blocks done, rows in all), where the image is large.

        Returns:
            (B, 1, *shape), in the units of the encoder's input.

        Raises:
            ModelError: when no level is given or a name is unknown.
        """
        given = levels_given(features, self.names)
        levels = [features[name].to(self.basis.dtype).movedim(1, -1) for name in given]
        grid = levels[0].shape[:-1]
        parts = [slice(0, grid[1])] if torch.is_grad_enabled() else slabs(grid, _AT_ONCE)
        if self.linear.intersection(given):
            guessed: Iterator[tuple[slice, _Guesses | None]] = ((part, None) for part in parts)
        else:
            guessed = self._guesses(levels, parts)
        if len(parts) == 1:
            image = self._synthesised(_merged(levels, parts[0]), next(guessed)[1])
        else:
            image = levels[0].new_empty((grid[0], 1, *(n * self.size for n in grid[1:])))
            for part, guesses in guessed:
                voxels = slice(part.start * self.size, part.stop * self.size)
                image[:, :, voxels] = self._synthesised(_merged(levels, part), guesses)
                if progress is not None:
                    progress(part.stop, grid[1])
        inside: tuple[Any, ...] = (..., *(slice(n) for n in shape))
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

    def _guesses(
        self, levels: Sequence[torch.Tensor], parts: Sequence[slice]
    ) -> Iterator[tuple[slice, _Guesses]]:
        """What the network makes of levels (B, *blocks, channels), from the first row of blocks to the last.

        It is given part after part, so that what is at work stays in the processor's cache; each
        convolution is a row behind what it is given.
        """
        means = self._centred_means(levels, parts)
        stem, coarse_blocks = Rolling(self.stem), RollingBlocks(self.coarse)
        fine_blocks, out = RollingBlocks(self.fine), Rolling(self.out)
        low_rows, stemmed, skipped, coarse_rows, drawn = (Rows() for _ in range(5))
        done = 0
        for part in parts:
            last = part is parts[-1]
            low = self._low(levels, part)
            low_rows.put(low.movedim(-1, 1))
            if (told := stem(self._split(low, means[:, self._finer(part)]), last)) is None:
                continue
            stemmed.put(told[0])
            skipped.put(told[0])
            if (rows := len(stemmed) // self.ratio) == 0:
                continue
            coarse = self._entered(stemmed.take(rows * self.ratio), low_rows.take(rows).movedim(1, -1))
            if (made := coarse_blocks(coarse, last)) is None:
                continue
            coarse_rows.put(made)
            fine = self.up(made)
            fine = fine_blocks(fine.add_(skipped.take(fine.shape[2])), last)
            if fine is None or (told := out(fine, last)) is None:
                continue
            drawn.put(told[0])
            if rows := len(drawn) // self.ratio:
                ended = [drawn.take(rows * self.ratio), coarse_rows.take(rows)]
                yield slice(done, done + rows), _Guesses(*(each.movedim(1, -1) for each in ended))
                done += rows

    def _entered(self, fine: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        """What enters the coarse blocks: (B, C, *positions) and (B, *blocks, channels) -> (B, K, *blocks)."""
        coarse: torch.Tensor = self.down(fine) + _each(self.kept, low)
        return coarse * (1 + _each(self.gate, _is_kept(low).to(low.dtype)))

    def _low(self, levels: Sequence[torch.Tensor], part: slice) -> torch.Tensor:
        """Some rows of blocks, in the precision of the convolutions."""
        rows = _merged(levels, part)
        kind = rows.device.type
        return rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows

    def _finer(self, part: slice) -> slice:
        return slice(part.start * self.ratio, part.stop * self.ratio)

    def _centred_means(self, levels: Sequence[torch.Tensor], parts: Sequence[slice]) -> torch.Tensor:
        """The means of all blocks of 4 voxels, each relative to those around it: (B, *positions).

        The means of the blocks go in in full precision: relative to what lies around they are small.
        """
        means = []
        first = self.parts[:, :: 4**self.spatial_dims]
        for part in parts:
            own = from_parts(_times(self._low(levels, part), first), self.ratio, self.spatial_dims)[..., 0]
            mean = _merged(levels, part)[..., 0]
            for axis in range(1, mean.ndim):
                mean = mean.repeat_interleave(self.ratio, axis)
            means.append(mean * self.ratio ** (-self.spatial_dims / 2) + own)
        return centred(torch.cat(means, dim=1)[:, None])[:, 0]

    def _split(self, low: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """Blocks of 4 voxels of the image behind (B, *blocks, channels): (B, 4 ** dims, *positions).

        One change of basis instead of the way through voxels; the means are those of `_centred_means`.
        """
        parts = from_parts(_times(low, self.parts), self.ratio, self.spatial_dims)
        parts[..., 0] = means
        return parts.movedim(-1, 1)


@dataclass(frozen=True)
class _Guesses:
    """The network's last features: at positions of 4 voxels (B, *positions, C), and at the blocks."""

    fine: torch.Tensor
    coarse: torch.Tensor


def _merged(levels: Sequence[torch.Tensor], part: slice) -> torch.Tensor:
    """Some rows of blocks (B, rows, ..., channels) with all coefficients that any level holds."""
    rows = levels[0][:, part]
    for level in levels[1:]:
        rows = torch.where(rows == 0, level[:, part], rows)
    return rows


def _times(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """(..., C) @ (C, K) as one product: for a part of a tensor torch would repeat the matrix instead."""
    return (rows.flatten(0, -2) @ matrix).unflatten(0, rows.shape[:-1])


def _is_kept(rows: torch.Tensor) -> torch.Tensor:
    """Which coefficients were kept; the means always are."""
    kept = rows != 0
    kept[..., 0] = True
    return kept


def _each(conv: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """A convolution of one position, of all coefficients but the mean: (B, *blocks, C) -> (B, K, *blocks)."""
    weight: torch.Tensor = conv.get_parameter("weight")
    bias = dict(conv.named_parameters()).get("bias")
    made = _times(rows, functional.pad(weight.reshape(weight.shape[:2]), (1, 0)).T)
    return (made if bias is None else made + bias).movedim(-1, 1)
