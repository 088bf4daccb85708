"""What is known of a scan before any feature is seen: few edges, and intensities within the window."""

from __future__ import annotations

import torch
from torch.nn import functional


def total_variation(image: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
    """Mean length of the intensity gradient: forward differences between neighbouring voxels.

    Source: Rudin, Osher & Fatemi 1992; Mahendran & Vedaldi 2015 (arXiv:1412.0035), equation 4, with beta 1.

    Args:
        image: (B, C, *spatial).
        eps: length at which it turns from linear to quadratic, so that its gradient is finite everywhere.

    Returns:
        A scalar, 0 for a constant image.
    """
    squares = torch.zeros_like(image)
    for axis in range(2, image.ndim):
        if image.shape[axis] > 1:
            after = [0, 0] * (image.ndim - 1 - axis) + [0, 1]  # the last voxel along an axis has no neighbour
            squares = squares + functional.pad(image.diff(dim=axis), after).square()
    return ((squares + eps**2).sqrt() - eps).mean()


def outside(image: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Mean square of what lies below `low` or above `high`: a scalar, 0 for an image within the window.

    Mahendran & Vedaldi's intensity prior bounds the norm of the image; the window of a scan is known.
    """
    below, above = functional.relu(low - image), functional.relu(image - high)
    return (below.square() + above.square()).mean()
