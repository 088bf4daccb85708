"""Whether a scan's slices are so far apart that a network of slices keeps more of it than one of volumes."""

from __future__ import annotations

import numpy as np
import torch

from medrecon.blocks.dct import analyse, block_basis

_BLOCK, _RATE = 16, 1 / 16
_MOST = 128
"""Voxels along an axis of the middle that is looked at."""

_RATIO = 2.0
"""Slices this many times as far apart as pixels are looked at; others lie close together."""

_WORTH = 0.5
"""dB from which on it is worth to be said."""


def gain_of_slices(volume: torch.Tensor) -> float:
    """How much more of a volume a code of its slices keeps than one of blocks, in dB.

    Both are block DCTs that keep one value in 16, on the middle of the volume: what the own networks start
    from (`medrecon.blocks.pyramid`). Above 0 the slices tell little of each other.

    Args:
        volume: (X, Y, Z), slices along Z.

    Returns:
        Ratio of the squared errors in dB; 0 where both keep all.
    """
    starts = [max(0, (n - _MOST) // 2) for n in volume.shape]
    middle = volume[tuple(slice(start, start + _MOST) for start in starts)].float()
    for axis, size in enumerate(middle.shape):
        if size % _BLOCK:
            last = middle.narrow(axis, size - 1, 1)
            middle = torch.cat([middle, last.repeat_interleave(-size % _BLOCK, axis)], dim=axis)
    lost = []
    for dims, images in ((3, middle[None, None]), (2, middle.permute(2, 0, 1)[:, None])):
        basis = block_basis(_BLOCK, dims, round(_RATE * _BLOCK**dims))
        kept = analyse(images, basis, _BLOCK).double().square().sum()
        lost.append(float(middle.double().square().sum() - kept))
    smallest = 1e-9 * float(middle.double().square().sum()) + 1e-12
    return 10 * float(np.log10(max(lost[0], smallest) / max(lost[1], smallest)))


def advice(volume: torch.Tensor, affine: np.ndarray, instead: str) -> str | None:
    """What to tell who gave thick slices to a network of volumes; None where it does not matter.

    Args:
        volume: (X, Y, Z), slices along Z.
        affine: (4, 4), voxels to mm.
        instead: the bundle of slices.
    """
    spacing = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    if spacing[2] < _RATIO * spacing[:2].max():
        return None
    gain = gain_of_slices(volume)
    if gain < _WORTH:
        return None
    return (
        f"its slices lie {spacing[2]:.1f} mm apart: slice by slice, as many values keep about {gain:.1f} dB "
        f"more of it; try --bundle {instead}"
    )
