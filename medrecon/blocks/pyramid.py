"""The orthonormal pyramid that the own networks start from: strided convolutions for low frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

from medrecon.blocks.dct import dct_basis, low_frequencies

_CONV: dict[int, Any] = {4: functional.conv2d, 5: functional.conv3d}
_TRANSPOSED: dict[int, Any] = {4: functional.conv_transpose2d, 5: functional.conv_transpose3d}


def pyramid_kernels(spatial_dims: int, channels: Sequence[int]) -> list[torch.Tensor]:
    """Kernels of stride 2, to be applied one after the other to an image.

    The first is the orthonormal DCT of blocks of two voxels (Haar's transform). Each other takes the lowest
    frequencies of a block twice as large out of what its 2 ** dims parts kept: its rows are the DCT of the
    whole block as far as the parts can express it, made orthonormal again (Loewdin 1950). Without a network
    the levels then hold what a block DCT of as many values holds, to a few hundredths of a decibel.

    Args:
        spatial_dims: 2 or 3.
        channels: of the levels at strides 2, 4, 8 ...

    Returns:
        For each level (channels, channels of the level before, 2, 2[, 2]), float32; channel 0 is the mean.

    Raises:
        ValueError: a level has more channels than the level before gives it values.
    """
    return [kernel.clone() for kernel in _kernels(spatial_dims, tuple(channels))]


@lru_cache
def _kernels(spatial_dims: int, channels: tuple[int, ...]) -> list[torch.Tensor]:
    """The same, computed once: encoder and decoder start from one pyramid."""
    kernels = []
    before = torch.zeros(1, spatial_dims, dtype=torch.long)  # the frequencies of a voxel
    for level, count in enumerate(channels):
        if not 1 <= count <= 2**spatial_dims * len(before):
            raise ValueError(f"level {level + 1} can have {2**spatial_dims * len(before)} channels at most")
        joined = _in_halves(2**level)
        kept = low_frequencies(2 ** (level + 1), spatial_dims, count)
        rows = torch.ones(count, 1, len(before), dtype=torch.float64)
        for axis in range(spatial_dims):
            along = joined[kept[:, axis]][:, :, before[:, axis]]
            rows = (rows[:, :, None] * along[:, None]).reshape(count, -1, len(before))
        left, _, right = torch.linalg.svd(rows.reshape(count, -1), full_matrices=False)
        kernel = (left @ right).reshape(count, -1, len(before)).movedim(1, 2)
        kernels.append(kernel.reshape(count, len(before), *[2] * spatial_dims).float())
        before = kept
    return kernels


def _in_halves(half: int) -> torch.Tensor:
    """Each frequency of a line of 2 * half voxels in those of its halves: (2 * half, 2, half)."""
    return dct_basis(2 * half).reshape(2 * half, 2, half) @ dct_basis(half).T


def down(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(B, C, *positions) -> (B, K, *positions / 2), in full precision."""
    with torch.autocast(x.device.type, enabled=False):
        made: torch.Tensor = _CONV[x.ndim](x.to(kernel.dtype), kernel, stride=2)
    return made


def up(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(B, K, *positions) -> (B, C, *positions * 2): the least-squares inverse of `down`, its transpose."""
    with torch.autocast(x.device.type, enabled=False):
        made: torch.Tensor = _TRANSPOSED[x.ndim](x.to(kernel.dtype), kernel, stride=2)
    return made


def without_means(x: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
    """`x` (B, C, *positions), its channel 0 relative to the mean of each 2 ** dims positions.

    Args:
        x: a level, whose channel 0 holds means.
        coarser: the level made of it by `down`.
    """
    mean = coarser[:, :1] / 2 ** ((x.ndim - 2) / 2)
    for axis in range(2, x.ndim):
        mean = mean.repeat_interleave(2, axis)
    return torch.cat([x[:, :1] - mean, x[:, 1:]], dim=1)
