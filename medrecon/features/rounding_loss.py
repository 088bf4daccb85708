"""What the type of the stored numbers loses: in the features, and in the image decoded from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from medrecon.blocks.tiles import Span, Tile
from medrecon.errors import ModelError
from medrecon.features.metadata import LayerFacts
from medrecon.features.model import Model
from medrecon.features.tiles import Read, decode_slices, decode_tile, grid_of
from medrecon.features.values import along, from_stored, largest, pieces, scales, to_stored

MOST_MEASURED = 1 << 22
"""Voxels that the cost in the image is measured on: the middle of a scan, or slices spread over it."""


def rounded_layer(layer: LayerFacts, values: np.ndarray, dtype: str) -> LayerFacts:
    """The facts of a layer whose values will be stored as `dtype`: its scales, and the error they leave.

    Args:
        layer: its facts as float32.
        values: its values, `layer.shape`; gone through twice, piece by piece.
        dtype: "float16" or "int8".
    """
    chosen = scales(largest(values, layer.channel_axis), dtype)
    lost = whole = 0.0
    for piece in pieces(layer.shape):
        block = np.asarray(values[piece])
        scale = along(chosen, layer.channel_axis, piece)
        wrong = from_stored(to_stored(block, scale, dtype), scale) - block
        lost += float(np.square(wrong, dtype=np.float64).sum())
        whole += float(np.square(block, dtype=np.float64).sum())
    return replace(layer, scale=chosen, relative_error=math.sqrt(lost / whole) if whole else 0.0)


def with_cost(
    layer: LayerFacts, values: np.ndarray, dtype: str, model: Model, image: torch.Tensor, clip: bool
) -> LayerFacts:
    """The facts of a layer with `psnr` and `psnr_float32`, measured; as they are where it cannot be decoded.

    Args:
        layer: its facts as `rounded_layer` gives them.
        values: float32, `layer.shape`.
        dtype: as which they will be stored.
        model: decodes them.
        image: (X, Y, Z) that they were computed from, in the network's scale.
        clip: compare within [0, 1] only, as `medrecon.evaluation.fidelity` does for HU.
    """
    axis = layer.channel_axis

    def exact(name: str, *index: slice) -> np.ndarray:
        return np.array(values[index], np.float32)

    def rounded(name: str, *index: slice) -> np.ndarray:
        scale = along(layer.scale, axis, index)
        return from_stored(to_stored(exact(name, *index), scale, dtype), scale)

    try:
        source, before = _decoded(exact, layer, model, image)
        after = _decoded(rounded, layer, model, image)[1]
    except ModelError:  # a decoder that wants several layers at once
        return layer
    ratios = [_psnr(source, made, clip) for made in (after, before)]
    if not all(math.isfinite(ratio) for ratio in ratios):
        return layer
    return replace(layer, psnr=ratios[0], psnr_float32=ratios[1], psnr_voxels=source.numel())


def _decoded(
    read: Read, layer: LayerFacts, model: Model, image: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A part of the image, and what the layer makes of it."""
    shape = tuple(image.shape)
    layers: Mapping[str, LayerFacts] = {layer.name: layer}
    if len(layer.stride) == 2:
        count = min(shape[2], max(1, MOST_MEASURED // (shape[0] * shape[1])))
        which = [(2 * i + 1) * shape[2] // (2 * count) for i in range(count)]
        made = [
            decode_slices(model.network, read, layers, shape, slice(z, z + 1), model.device) for z in which
        ]
        return image[:, :, which], torch.cat(made, dim=2)
    tile = _middle(shape, grid_of(model.network), model.network.inversion.reach)
    part = image[tuple(slice(span.start, span.stop) for span in tile)]
    return part, decode_tile(model.network, read, layers, shape, tile, model.device)


def _middle(shape: tuple[int, ...], grid: int, halo: int | None) -> Tile:
    """A block of about `MOST_MEASURED` voxels in the middle, with the halo that its decoding depends on."""
    if halo is None or math.prod(shape) <= MOST_MEASURED:
        return tuple(Span(0, n, 0, n) for n in shape)
    halo = math.ceil(halo / grid) * grid
    side, left = {}, float(MOST_MEASURED)
    for rank, axis in enumerate(sorted(range(len(shape)), key=lambda axis: shape[axis])):
        side[axis] = min(shape[axis], max(grid, int(left ** (1 / (len(shape) - rank))) // grid * grid))
        left /= side[axis]
    spans = []
    for axis, size in enumerate(shape):
        start = (size - side[axis]) // 2 // grid * grid
        stop = size if start + side[axis] >= size else start + side[axis]
        spans.append(Span(start, stop, max(0, start - halo), min(size, stop + halo)))
    return tuple(spans)


def _psnr(source: torch.Tensor, made: torch.Tensor, clip: bool) -> float:
    one, other = (x.double().clamp(0, 1) if clip else x.double() for x in (source, made))
    error = float((one - other).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)
