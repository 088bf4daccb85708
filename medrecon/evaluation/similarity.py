"""What SSIM and MS-SSIM are: window, constants and scales, also for images too small or thin for all five.

They are computed twice, for two ends: `ssim` goes through volumes of any size in slabs and keeps no
gradient, `losses.structural` has gradients and holds the patch whole. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW, SIGMA = 11, 1.5
"""Of the Gaussian window, in voxels along an axis."""

K1, K2 = 0.01, 0.03
"""Stabilisers, relative to the data range: Wang et al., IEEE TIP 13(4), 2004."""

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weight of each scale, fine to coarse: Wang, Simoncelli & Bovik, Asilomar 2003."""


def gaussian(length: int, window: int = WINDOW, sigma: float = SIGMA) -> np.ndarray:
    """The window along an axis of so many voxels, sum 1; on a shorter axis the longest odd one that fits."""
    size = min(window, length - 1 + length % 2)
    weights = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def halvings(
    shape: Sequence[int], window: int = WINDOW, most: int = len(EXPONENTS)
) -> list[tuple[bool, ...]]:
    """Say which axes are halved on the way from each scale to the next.

    An axis is halved only if the window still fits afterwards; so the stack of a few thick slices is judged
    at coarser and coarser resolution in its plane, and there are fewer than five scales where no axis is long
    enough. All axes of 176 voxels or more are halved four times, as in the paper.

    Args:
        shape: voxels along each axis.
        window: voxels of the window along an axis.
        most: scales there are at most.

    Returns:
        one entry less than there are scales; along each axis, whether it is halved.
    """
    size = list(shape)
    found: list[tuple[bool, ...]] = []
    while len(found) < most - 1:
        step = tuple(n // 2 >= window for n in size)
        if not any(step):
            break
        found.append(step)
        size = [n // 2 if half else n for n, half in zip(size, step, strict=True)]
    return found


def exponents(scales: int) -> tuple[float, ...]:
    """Weights of the first `scales` scales, brought to the sum of all five (which is 1, up to rounding)."""
    chosen = EXPONENTS[:scales]
    return tuple(value * sum(EXPONENTS) / sum(chosen) for value in chosen)
