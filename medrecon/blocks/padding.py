"""Images whose sides are whole multiples of a stride."""

from __future__ import annotations

import torch


def pad_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the far ends of (B, C, *spatial) until each axis is a multiple of `multiple`."""
    for axis, size in enumerate(image.shape[2:], start=2):
        if size % multiple:
            sides = [1] * image.ndim
            sides[axis] = -size % multiple
            image = torch.cat([image, image.narrow(axis, size - 1, 1).repeat(sides)], dim=axis)
    return image
