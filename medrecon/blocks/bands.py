"""An image as a sum of bands of frequency, by local means alone: no matter how a volume was cut."""

from __future__ import annotations

import torch
from torch.nn import functional

BANDS = 4
"""Details of about 2 to 4, 4 to 8 and 8 to 16 voxels, and what is left."""

_WEIGHTS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)

REACH = sum(2 * 2**level for level in range(BANDS - 1))
"""Voxels to either side on which a band depends."""


def split_bands(image: torch.Tensor) -> list[torch.Tensor]:
    """Bands from fine to coarse, whose sum is the image.

    The "à trous" decomposition by binomial weights of five voxels along each axis (Starck and Murtagh 1994).

    Args:
        image: (B, C, *spatial), 2 or 3 axes of any size.
    """
    bands = []
    for level in range(BANDS - 1):
        smooth = _smooth(image, 2**level)
        bands.append(image - smooth)
        image = smooth
    return [*bands, image]


def _smooth(image: torch.Tensor, apart: int) -> torch.Tensor:
    """Weighted means of five voxels along each axis, so many apart; the edge goes on as it ends."""
    axes = image.ndim - 2
    for axis in range(axes):
        pad = [0] * (2 * axes)
        pad[2 * (axes - 1 - axis)] = pad[2 * (axes - 1 - axis) + 1] = 2 * apart
        wide, size = functional.pad(image, pad, mode="replicate"), image.shape[2 + axis]
        parts = [wide.narrow(2 + axis, k * apart, size) for k in range(5)]
        image = sum(part * weight for part, weight in zip(parts[1:], _WEIGHTS[1:], strict=True)) + (
            parts[0] * _WEIGHTS[0]
        )
    return image
