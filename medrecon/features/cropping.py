"""What a network gave for one piece of an image, cut to what belongs in the layer's array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medrecon.blocks.tiles import Tile
from medrecon.contract import LayerInfo
from medrecon.errors import ModelError
from medrecon.features.metadata import LayerFacts

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Block:
    """A piece of a layer.

    Attributes:
        index: where it belongs in the layer's array.
        values: float32.
        computed_in: the type in which the network gave it.
        channels_last: whether it was laid out so.
    """

    index: tuple[slice, ...]
    values: np.ndarray
    computed_in: str
    channels_last: bool


def volume_block(features: torch.Tensor, layer: LayerInfo, shape: Sequence[int], tile: Tile) -> Block:
    """The kept part of a tile of a volume.

    Args:
        features: (1, C, *positions), what the network gave for all that the tile sees.
        layer: what it is said to be.
        shape: (X, Y, Z) of the volume.
        tile: its spans.

    Raises:
        ModelError: the features are not what the layer is said to be, or are not finite.
    """
    values = _mapped(features, layer)[0]
    index, kept = [slice(0, len(values))], [slice(None)]
    for span, step, count, size in zip(tile, layer.stride, values.shape[1:], shape, strict=True):
        if count * step < span.high - span.low:
            raise _uncovered(layer, size)
        first = (span.start - span.low) // step
        last = count if span.stop == size else first + (span.stop - span.start) // step
        kept.append(slice(first, last))
        index.append(slice(span.start // step, span.start // step + last - first))
    return Block(tuple(index), _numbers(values[tuple(kept)], layer), *_form(features))


def slice_block(features: torch.Tensor, layer: LayerInfo, shape: Sequence[int], which: slice) -> Block:
    """Features of some slices of a volume, (slices, C, *positions); else as `volume_block`."""
    values = _mapped(features, layer)
    for step, count, size in zip(layer.stride, values.shape[2:], shape, strict=False):
        if count * step < size:
            raise _uncovered(layer, size)
    index = (which, *(slice(0, n) for n in values.shape[1:]))
    return Block(index, _numbers(values, layer), *_form(features))


def count_values(layer: LayerInfo, shape: Sequence[int]) -> int:
    """How many numbers a layer's tensor has of a volume (X, Y, Z), as far as its stride tells."""
    count = layer.channels * (shape[2] if len(layer.stride) == 2 else 1)
    for size, step in zip(shape, layer.stride, strict=False):
        count *= -(-size // step)
    return count


def stored_bytes(layer: LayerInfo, shape: Sequence[int], itemsize: int) -> int:
    """How many bytes a layer takes in a file; about, where it leaves channels empty.

    Args:
        layer: the layer.
        shape: (X, Y, Z) of the volume.
        itemsize: bytes of a stored number.
    """
    count = count_values(layer, shape)
    if not layer.sparse:
        return count * itemsize
    positions = count // layer.channels  # the set that each keeps has a number, which the rate counts in
    kept = min(count, int(layer.values_per_voxel * math.prod(shape)) - positions)
    return max(0, kept) * itemsize + 2 * positions


def layer_facts(layer: LayerInfo, block: Block, slices: int) -> LayerFacts:
    """What a file says of a layer, from its first block and the number of slices.

    That block lies at the far end of each axis (and of no axis for slices): its end is the shape.
    """
    ends = [index.stop for index in block.index]
    return LayerFacts(
        name=layer.name,
        shape=tuple(ends) if len(layer.stride) == 3 else (slices, *ends[1:]),
        stride=tuple(layer.stride),
        receptive_field=layer.receptive_field,
        values_per_voxel=layer.values_per_voxel,
        computed_in=block.computed_in,
        channels_last=block.channels_last,
    )


def _mapped(features: torch.Tensor, layer: LayerInfo) -> torch.Tensor:
    """(B, C, *positions); a latent vector (B, C) has one position."""
    axes = len(layer.stride)
    values = features.reshape(*features.shape, *(1,) * axes) if features.ndim == 2 else features
    if values.ndim != axes + 2 or values.shape[1] != layer.channels:
        raise ModelError(
            f"layer {layer.name} gave features of shape {tuple(features.shape)}, "
            f"not {layer.channels} channels over {axes} axes",
            remedy="mend the encoder's layers()",
        )
    return values


def _numbers(values: torch.Tensor, layer: LayerInfo) -> np.ndarray:
    numbers: np.ndarray = values.float().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise ModelError(
            f"the features of {layer.name} are not finite numbers", remedy="check the model and its weights"
        )
    return numbers


def _form(features: torch.Tensor) -> tuple[str, bool]:
    """Type and memory layout."""
    last = features.ndim > 3 and features.is_contiguous(memory_format=CHANNELS_LAST[features.ndim])
    return str(features.dtype).removeprefix("torch."), last


def _uncovered(layer: LayerInfo, size: int) -> ModelError:
    stride = "x".join(map(str, layer.stride))
    return ModelError(
        f"layer {layer.name} does not cover an image of {size} voxels at stride {stride}",
        remedy="choose a layer whose positions cover the image",
    )
