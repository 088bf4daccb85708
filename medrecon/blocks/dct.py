"""Orthonormal block transform: a volume as the low frequencies of its blocks, and back.

A block of `size` voxels along each axis is expressed in the orthonormal DCT-II basis (Ahmed, Natarajan and
Rao 1974). Kept are the coefficients of lowest frequency: the smallest sum of squared frequency indices,
ties in index order. With all of them the transform loses nothing but rounding.
"""

from __future__ import annotations

import math

import torch


def dct_basis(size: int) -> torch.Tensor:
    """The orthonormal DCT-II basis of length `size`: (frequency, position), float64."""
    position = torch.arange(size, dtype=torch.float64)
    frequency = position[:, None]
    basis = torch.cos(math.pi * frequency * (2 * position + 1) / (2 * size))
    basis *= math.sqrt(2 / size)
    basis[0] *= math.sqrt(0.5)
    return basis


def low_frequencies(size: int, spatial_dims: int, count: int) -> torch.Tensor:
    """Indices of the `count` lowest frequencies of a block, (count, spatial_dims)."""
    axes = [torch.arange(size)] * spatial_dims
    indices = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, spatial_dims)
    order = torch.argsort(indices.square().sum(dim=1), stable=True)
    return indices[order[:count]]


def block_basis(size: int, spatial_dims: int, count: int) -> torch.Tensor:
    """The kept basis functions as rows, (count, size ** spatial_dims), float32."""
    one = dct_basis(size)
    rows = torch.ones(count, 1, dtype=torch.float64)
    for index in low_frequencies(size, spatial_dims, count).T:
        rows = (rows[:, :, None] * one[index][:, None, :]).flatten(1)
    return rows.float()


def to_blocks(image: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 1, *S) -> (B, *S / size, size ** dims): each block's voxels as the last axis."""
    batch, _, *spatial = image.shape
    dims = len(spatial)
    split = image.reshape(batch, *(n for s in spatial for n in (s // size, size)))
    order = [0, *range(1, 2 * dims + 1, 2), *range(2, 2 * dims + 1, 2)]
    return split.permute(order).reshape(batch, *(s // size for s in spatial), size**dims)


def from_blocks(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """(B, *S / size, size ** dims) -> (B, 1, *S): undoes `to_blocks`."""
    batch, *grid, _ = blocks.shape
    dims = len(grid)
    split = blocks.reshape(batch, *grid, *([size] * dims))
    order = [0, *(axis for d in range(dims) for axis in (1 + d, 1 + dims + d))]
    return split.permute(order).reshape(batch, 1, *(n * size for n in grid))


def analyse(image: torch.Tensor, basis: torch.Tensor, size: int) -> torch.Tensor:
    """Coefficients of the kept frequencies: (B, 1, *S) -> (B, count, *S / size), in the basis' precision."""
    with torch.autocast(image.device.type, enabled=False):
        return (to_blocks(image.to(basis.dtype), size) @ basis.T).movedim(-1, 1)


def synthesise(coefficients: torch.Tensor, basis: torch.Tensor, size: int) -> torch.Tensor:
    """The image with these coefficients and no others: (B, count, *S / size) -> (B, 1, *S)."""
    with torch.autocast(coefficients.device.type, enabled=False):
        return from_blocks(coefficients.to(basis.dtype).movedim(1, -1) @ basis, size)


def sub_blocks(size: int, smaller: int, spatial_dims: int) -> torch.Tensor:
    """The change of basis from coefficients of a block to those of the smaller blocks in it.

    Orthonormal: its transpose goes back. Float32.

    Returns:
        (size ** dims, ratio ** dims * smaller ** dims), ratio the number of smaller blocks along an axis.
    """
    whole = block_basis(size, spatial_dims, size**spatial_dims).double()
    part = block_basis(smaller, spatial_dims, smaller**spatial_dims).double()
    images = whole.reshape(len(whole), 1, *[size] * spatial_dims)
    return (to_blocks(images, smaller) @ part.T).reshape(len(whole), -1).float()


def from_parts(parts: torch.Tensor, ratio: int, spatial_dims: int) -> torch.Tensor:
    """(B, *blocks, ratio ** dims * C) -> (B, *blocks * ratio, C): what is in each block takes its place."""
    batch, *grid, _ = parts.shape
    split = parts.reshape(batch, *grid, *[ratio] * spatial_dims, -1)
    order = [0, *(axis for d in range(spatial_dims) for axis in (1 + d, 1 + spatial_dims + d)), -1]
    return split.permute(order).reshape(batch, *(n * ratio for n in grid), split.shape[-1])


def to_parts(values: torch.Tensor, ratio: int) -> torch.Tensor:
    """(B, *positions, C) -> (B, *positions / ratio, ratio ** dims * C): undoes `from_parts`."""
    batch, *places, channels = values.shape
    dims = len(places)
    split = values.reshape(batch, *(n for s in places for n in (s // ratio, ratio)), channels)
    order = [0, *range(1, 2 * dims + 1, 2), *range(2, 2 * dims + 1, 2), -1]
    return split.permute(order).reshape(batch, *(s // ratio for s in places), -1)
