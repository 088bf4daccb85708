"""Slices of a volume along each axis, for 2D networks that judge volumes ("2.5D")."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def slice_batches(
    images: tuple[torch.Tensor, ...], per_axis: int, *, shuffled: bool, smallest: int = 1
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same slices of each volume, as batches of 2D images, axis by axis.

    Axes whose slices are narrower than `smallest` are left out, unless all are: a slab of eight slices is
    seen as those eight slices, not as strips eight pixels high.

    Args:
        images: volumes (B, C, X, Y, Z) of one shape.
        per_axis: slices along each axis, at most; at least one is taken.
        shuffled: draw them from torch's global generator; else spread them evenly.
        smallest: pixels a slice should have along both its sides.

    Yields:
        for each axis, a batch (B * n, C, *the other two axes) of each volume.
    """
    size = images[0].shape[2:]
    sides = [[s for other, s in enumerate(size) if other != axis] for axis in range(3)]
    wide = [axis for axis in range(3) if min(sides[axis]) >= smallest]
    for axis in wide or range(3):
        chosen = _positions(size[axis], max(1, per_axis), shuffled).to(images[0].device)
        yield tuple(
            image.index_select(axis + 2, chosen).movedim(axis + 2, 1).flatten(0, 1) for image in images
        )


def _positions(size: int, count: int, shuffled: bool) -> torch.Tensor:
    """`count` different positions out of `size`; all of them where there are fewer."""
    if count >= size:
        return torch.arange(size)
    if shuffled:
        return torch.randperm(size)[:count]
    return ((torch.arange(count) + 0.5) * size / count).long()
