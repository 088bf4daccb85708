"""What costs no training: reconstructions that every network has to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn, idctn


def dct_code(
    volume: np.ndarray, values_per_voxel: float = 1 / 16, block: int | Sequence[int] = 16
) -> np.ndarray:
    """Keep the lowest frequencies of each block of the volume, and nothing else: the linear control.

    Each block goes through an orthonormal DCT-II; of its coefficients those nearest to zero frequency (in
    cycles per voxel; ties in the order of their indices) are kept as they are, without quantisation, and the
    others are set to zero. 1/16 value per voxel keeps 256 of the 4096 coefficients of a block of 16x16x16.
    Ends that fill no block are repeated: mirroring them costs 0.01 to 0.15 dB on real scans.

    It is linear: scaling makes no difference, but sharp padding far below the image's values rings. Give it
    what a network gets (HU below -1024 raised to -1024) to compare the two.

    Args:
        volume: (X, Y, Z) or (X, Y), any dtype.
        values_per_voxel: coefficients kept, as a share of the block's voxels; at least one is kept.
        block: voxels of a block along each axis, or along all; (16, 16, 1) codes slices.

    Returns:
        The reconstruction, float32, same shape and units.
    """
    volume = np.asarray(volume)
    blocks = (block,) * volume.ndim if isinstance(block, int) else tuple(block)[: volume.ndim]
    keep = lowest_frequencies(blocks, values_per_voxel)
    # one layer of blocks at a time, along the slowest axis in memory
    first = max(range(volume.ndim), key=lambda axis: abs(volume.strides[axis]))
    moved = np.moveaxis(volume, first, 0)
    sizes = (blocks[first], *(b for axis, b in enumerate(blocks) if axis != first))
    keep = np.moveaxis(keep, first, 0)
    recon = np.empty_like(moved, dtype=np.float32)
    axes = tuple(range(1, 2 * volume.ndim, 2))
    for start in range(0, len(moved), sizes[0]):
        layer = np.asarray(moved[start : start + sizes[0]], dtype=np.float32)
        inner = tuple(slice(0, n) for n in layer.shape)
        layer = np.pad(layer, [(0, -n % b) for n, b in zip(layer.shape, sizes, strict=True)], "edge")
        cut = [n for size, b in zip(layer.shape, sizes, strict=True) for n in (size // b, b)]
        code = dctn(layer.reshape(cut), axes=axes, norm="ortho", workers=-1)
        code *= keep.reshape([n for b in keep.shape for n in (1, b)])
        back = idctn(code, axes=axes, norm="ortho", overwrite_x=True, workers=-1)
        recon[start : start + sizes[0]] = back.reshape(layer.shape)[inner]
    return np.moveaxis(recon, 0, first)


def lowest_frequencies(block: Sequence[int], values_per_voxel: float) -> np.ndarray:
    """Mark the coefficients of a DCT block that `dct_code` keeps: a mask of shape `block`."""
    count = max(1, round(values_per_voxel * math.prod(block)))
    keep = np.zeros(math.prod(block), dtype=bool)
    keep[lowest_first(block)[:count]] = True
    return keep.reshape(tuple(block))


def lowest_first(shape: Sequence[int]) -> np.ndarray:
    """The order of a DCT's coefficients by their distance from zero frequency, ties by their places."""
    axes = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij", sparse=True)
    squared = sum(axis**2 for axis in axes)
    return np.argsort(np.asarray(squared).round(12), axis=None, kind="stable")


def mean_image(volume: np.ndarray) -> np.ndarray:
    """Give back the volume's mean everywhere: what is left when nothing is kept.

    Returns:
        float32, same shape and units, read-only (one value, seen from each voxel).
    """
    return np.broadcast_to(np.float32(np.mean(volume, dtype=np.float64)), np.shape(volume))
