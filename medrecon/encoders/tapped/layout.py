"""How a module's tensor becomes a feature map: which axis is the channel, which are space, by its shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

Shape = tuple[int, ...]

_TOKENS_BEFORE = (0, 1, 2, 5)
"""Tokens that may precede a grid: none, class, class and distillation, class and four registers."""


@dataclass(frozen=True)
class Layout:
    """Where a tensor of a network has its channels and its positions.

    Attributes:
        kind: "grid" (an axis for each of the image's), "tokens" (positions on one axis, row by row) or
            "vector" (one position for the whole image).
        order: the permutation to (B, C, *positions); for tokens to (B, C, N).
        skip: tokens before the grid (class token, registers).
        channels: how many feature maps.
        stride: input voxels per position, along each axis.
    """

    kind: str
    order: tuple[int, ...]
    skip: int
    channels: int
    stride: tuple[int, ...]

    def positions(self, size: Sequence[int]) -> Shape:
        """Positions that cover an image of this spatial size."""
        return tuple(math.ceil(n / s) for n, s in zip(size, self.stride, strict=True))

    def arrange(self, tensor: torch.Tensor, padded: Sequence[int]) -> torch.Tensor:
        """The tensor of a padded image as (B, C, *positions), without copying.

        Raises:
            RuntimeError: its shape is not of this layout.
        """
        if self.kind == "vector":
            return tensor.reshape(*tensor.shape[:2], *(1,) * len(self.stride))
        if self.kind == "tokens":
            rows = tensor.permute(self.order)[:, :, self.skip :]
            return rows.reshape(*rows.shape[:2], *self.positions(padded))
        return tensor.permute(self.order)


def times(size: Sequence[int]) -> str:
    """A size in words: 96x96x64."""
    return "x".join(map(str, size))


class Unfit(Exception):
    """A tensor that is no feature map; the message says why."""


def layout_by_growth(base: Shape, grown: Sequence[Shape], batch: int, size: int, dims: int) -> Layout:
    """The layout of a tensor, told by how its shape follows the image: space grows, channels do not.

    Args:
        base: its shape for a batch of images of `size` along each axis.
        grown: its shapes when one axis of the image after the other is doubled.
        batch: images in the batch, the same each time.
        size: a multiple of all strides to be found.
        dims: spatial axes of the image.

    Raises:
        Unfit: it is no feature map.
    """
    _check_batch(base, batch)
    if any(len(shape) != len(base) for shape in grown):
        raise Unfit("its number of axes changes with the size of the image")
    follows = [
        [axis for axis in range(dims) if grown[axis][place] != base[place]] for place in range(len(base))
    ]
    still = [place for place in range(1, len(base)) if not follows[place]]
    if len(still) == len(base) - 1:
        raise Unfit(
            "one vector for the whole image" if _is_vector(base, dims) else "it does not follow the image"
        )
    if len(base) == dims + 2 and len(still) == 1 and all(len(f) <= 1 for f in follows):
        order = [next((p for p, f in enumerate(follows) if f == [axis]), 0) for axis in range(dims)]
        if 0 not in order:
            steps = tuple(_step(size, grown[axis][place] - base[place]) for axis, place in enumerate(order))
            return Layout("grid", (0, still[0], *order), 0, base[still[0]], steps)
    if len(base) == 3 and len(still) == 1:
        place = 3 - still[0]
        return _tokens(base, place, (size,) * dims, hints=())
    raise Unfit(f"its {len(base)} axes are neither a grid nor a row of tokens")


def layout_by_size(shape: Shape, batch: int, size: Shape, hints: Iterable[Shape] = ()) -> Layout:
    """The layout of a tensor of a network that takes one size only: the one whose strides are most alike.

    Args:
        shape: the tensor's shape.
        batch: images in the batch.
        size: the image's size.
        hints: strides that grids of the same network have, tried first for tokens.

    Raises:
        Unfit: it is no feature map.
    """
    dims = len(size)
    _check_batch(shape, batch)
    if _is_vector(shape, dims):
        return Layout("vector", tuple(range(len(shape))), 0, shape[1], tuple(size))
    if len(shape) == dims + 2:
        found = []
        for place in (1, dims + 1):
            spatial = [p for p in range(1, dims + 2) if p != place]
            strides = tuple(max(1, round(n / shape[p])) for n, p in zip(size, spatial, strict=True))
            if all(
                0 <= math.ceil(n / s) - shape[p] <= 2 for n, s, p in zip(size, strides, spatial, strict=True)
            ):
                order = (0, place, *spatial)
                found.append((max(strides) / min(strides), Layout("grid", order, 0, shape[place], strides)))
        if found:
            return min(found, key=lambda each: each[0])[1]
    if len(shape) == 3:
        for place in (1, 2):
            try:
                return _tokens(shape, place, size, hints)
            except Unfit:
                continue
    raise Unfit(f"its shape {_text(shape, batch)} is neither a grid nor a row of tokens")


def _tokens(shape: Shape, place: int, size: Shape, hints: Iterable[Shape]) -> Layout:
    """Tokens along axis `place`, of a known stride or of one that is the same along each axis."""
    for skip in _TOKENS_BEFORE:
        count = shape[place] - skip
        if count < 1:
            break
        alike = max(1, round((math.prod(size) / count) ** (1 / len(size))))
        for stride in (*hints, (alike,) * len(size)):
            fits = all(n % s == 0 for n, s in zip(size, stride, strict=True))
            if fits and math.prod(n // s for n, s in zip(size, stride, strict=True)) == count:
                return Layout("tokens", (0, 3 - place, place), skip, shape[3 - place], stride)
    raise Unfit(f"its {shape[place]} tokens make no grid of the image")


def _check_batch(shape: Shape, batch: int) -> None:
    if len(shape) < 2 or shape[0] != batch:
        raise Unfit("its first axis is not the batch: windows or tokens are mixed into it")


def _is_vector(shape: Shape, dims: int) -> bool:
    return len(shape) == 2 or (len(shape) == dims + 2 and all(n == 1 for n in shape[2:]))


def _step(size: int, more: int) -> int:
    """Voxels per position when `size` more voxels make `more` more positions."""
    if more > size:
        raise Unfit("it is finer than the image")
    if more < 1 or size % more:
        raise Unfit("its positions are no whole number of voxels apart")
    return size // more


def _text(shape: Shape, batch: int) -> str:
    return "(" + ", ".join(["B" if shape[0] == batch else "?", *map(str, shape[1:])]) + ")"
