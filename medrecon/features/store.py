"""Features computed as float32 to the file that holds them: rounded, and packed where channels are empty."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.features.file import create
from medrecon.features.metadata import FeatureFacts, LayerFacts
from medrecon.features.packed import Packing
from medrecon.features.values import along, pieces, to_stored


def store(
    path: Path,
    facts: FeatureFacts,
    values: Mapping[str, np.ndarray],
    sparse: Collection[str],
    tensors: Mapping[str, np.ndarray],
) -> FeatureFacts:
    """Write a feature file; memory holds one piece of it.

    Args:
        path: a new file.
        facts: what it says of itself; its layers with their scales.
        values: layer -> float32, as `facts` has its shape.
        sparse: layers to pack.
        tensors: what else it holds.

    Returns:
        The facts as they are in the file.

    Raises:
        OSError: the disk is full.
    """
    packed = {
        layer.name: Packing.of(values[layer.name], layer.channel_axis)
        for layer in facts.layers
        if layer.name in sparse
    }
    voxels = math.prod(facts.image_shape)
    facts = replace(
        facts,
        layers=tuple(
            _packed(layer, packed[layer.name], voxels) if layer.name in packed else layer
            for layer in facts.layers
        ),
    )
    more = {name: part for layer, packing in packed.items() for name, part in packing.tensors(layer).items()}
    stored = create(path, facts, {**tensors, **more})
    for layer in facts.layers:
        source, target = values[layer.name], stored[layer.name]
        if layer.name in packed:
            row = along(layer.scale, layer.channel_axis).reshape(1, -1)
            packed[layer.name].fill(
                target, source, layer.channel_axis, lambda rows, row=row: to_stored(rows, row, facts.dtype)
            )
            continue
        for piece in pieces(layer.shape):
            scale = along(layer.scale, layer.channel_axis, piece)
            target[piece] = to_stored(np.asarray(source[piece]), scale, facts.dtype)
    flush(stored)
    return facts


def flush(arrays: Mapping[str, np.ndarray]) -> None:
    """Bring what was written to the disk."""
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()


def _packed(layer: LayerFacts, packing: Packing, voxels: int) -> LayerFacts:
    numbers = packing.kept + packing.which.size
    return replace(layer, kept=packing.kept, sets=len(packing.sets), values_per_voxel=numbers / voxels)
