"""How volumes are cut into tiles that leave no seams."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """One tile along one axis: [start, stop) is kept, [low, high) is what the network sees."""

    start: int
    stop: int
    low: int
    high: int


Tile = tuple[Span, ...]
"""A span along each axis."""


def cut(size: int, core: int, halo: int) -> list[Span]:
    """Cut an axis into pieces of `core` voxels, each seen with `halo` voxels to either side."""
    starts = range(0, size, core)
    return [
        Span(s, min(s + core, size), max(s - halo, 0), min(min(s + core, size) + halo, size)) for s in starts
    ]


def plan_tiles(shape: Sequence[int], stride: int, halo: int | None, most_voxels: int) -> list[Tile]:
    """Cut a volume into tiles whose halos hold all that a kept voxel can depend on.

    Of all regular cuts whose tiles fit, the one with the least arithmetic. Cuts lie on multiples of `stride`,
    so that a tile sees the very blocks that the whole volume has.

    Args:
        shape: spatial size of the volume.
        stride: the network's deepest stride.
        halo: voxels that a result depends on around its block; None: it may depend on all, and one tile is
            the whole.
        most_voxels: the largest tile, halo included; exceeded only where the smallest tile is larger.

    Returns:
        For each tile a span along each axis.
    """
    if halo is None:
        return [tuple(Span(0, size, 0, size) for size in shape)]
    halo = math.ceil(halo / stride) * stride
    choices = []
    for size in shape:
        blocks = math.ceil(size / stride)
        cores = sorted({math.ceil(blocks / parts) * stride for parts in range(1, blocks + 1)})
        choices.append([cut(size, core, halo) for core in cores])

    def cost(axes: tuple[list[Span], ...]) -> tuple[bool, int, int]:
        largest = math.prod(max(s.high - s.low for s in spans) for spans in axes)
        work = math.prod(sum(s.high - s.low for s in spans) for spans in axes)
        return (True, largest, work) if largest > most_voxels else (False, work, -largest)

    return list(itertools.product(*min(itertools.product(*choices), key=cost)))


def largest_tile(tiles: Sequence[Tile]) -> tuple[int, ...]:
    """The spatial size of the largest tile, halo included."""
    sizes = [tuple(span.high - span.low for span in tile) for tile in tiles]
    return max(sizes, key=math.prod)


def arithmetic(shape: Sequence[int], tiles: Sequence[Tile]) -> float:
    """What the tiles take beside one pass over the whole: 1 where nothing is computed twice."""
    work = sum(math.prod(span.high - span.low for span in tile) for tile in tiles)
    return work / math.prod(shape)


def slabs(grid: Sequence[int], most: int) -> list[slice]:
    """Cut the first axis of (B, *positions), so that no slab of all images holds many more positions.

    Args:
        grid: the shape.
        most: positions of a slab, all images together; a slab has one row at least.
    """
    row = math.prod(grid) // max(1, grid[1])
    each = max(1, most // max(1, row))
    return [slice(start, min(start + each, grid[1])) for start in range(0, grid[1], each)]
