"""White noise that is tied to the place: any part of a volume gets the same, whatever it was cut from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

BLOCK = (64, 64, 8)
"""Voxels of the blocks that are drawn at once; each from a counter-based generator of its own."""


def placed_noise(
    shape: Sequence[int], seed: int, number: int, start: Sequence[int] = (0, 0, 0)
) -> torch.Tensor:
    """Normal noise of mean 0 and variance 1 for a box of voxels.

    Philox (Salmon et al. 2011), keyed by seed, number of the sample and number of the block.

    Args:
        shape: of the box, three axes.
        seed: of all samples.
        number: of the sample, from 0.
        start: the first voxel of the box.

    Returns:
        (*shape), float32.
    """
    noise = np.empty(tuple(shape), np.float32)
    spans = [
        range(first // side, -(-(first + size) // side))
        for first, size, side in zip(start, shape, BLOCK, strict=True)
    ]
    for block in itertools.product(*spans):
        key = np.random.SeedSequence([seed, number, *block])
        drawn = np.random.Generator(np.random.Philox(key)).standard_normal(BLOCK, np.float32)
        target, source = [], []
        for index, side, first, size in zip(block, BLOCK, start, shape, strict=True):
            low, high = max(index * side, first), min((index + 1) * side, first + size)
            target.append(slice(low - first, high - first))
            source.append(slice(low - index * side, high - index * side))
        noise[tuple(target)] = drawn[tuple(source)]
    return torch.from_numpy(noise)
