"""What a linear read-out of each level tells of the tissues of generated volumes, beside its controls.

    python benchmarks/linear_probe.py --bundles volume_autoencoder slice_autoencoder --volumes 24

Places are the middles of cells of 8 voxels, told from the feature vector of the position that holds them;
folds are whole volumes. Controls: as many DCT values of the same voxels, the encoder with random weights,
labels dealt out anew. Balanced accuracy; the labels are the generator's tissues.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medrecon.atlas.probe import random_encoder
from medrecon.bundle.config import Bundle
from medrecon.evaluation.linear_probe import Places, linear_probe, shuffled
from medrecon.intensity_range import intensity_range
from medrecon.phantoms import labelled_volume

CELL = 8


def volumes(count: int, shape: tuple[int, int, int], seed: int, modality: str) -> list[Any]:
    """(image in [0, 1], labels by name) of generated volumes that no training saw."""
    made = []
    for number in range(count):
        volume, units, labels, tissues = labelled_volume(
            shape,
            np.random.default_rng([seed, number]),
            modality,  # type: ignore[arg-type]
        )
        low, high = intensity_range(volume, units)
        made.append(((volume - low) / (high - low), np.array(tissues)[labels]))
    return made


def features_of(encoder: Any, image: np.ndarray, dims: int) -> dict[str, np.ndarray]:
    """Level -> (C, *positions), or (slices, C, *positions)."""
    volume = torch.from_numpy(np.ascontiguousarray(image, np.float32))
    given = volume[None, None] if dims == 3 else volume.permute(2, 0, 1)[:, None]
    with torch.inference_mode():
        found = encoder(given.contiguous())
    return {name: values[0].numpy() if dims == 3 else values.numpy() for name, values in found.items()}


def table(bundle: str, made: list[Any]) -> list[dict[str, Any]]:
    """A row for each level."""
    network: Any = Bundle.open(bundle).build("network")
    layers = network.layers()
    dims = len(layers[0].stride)
    cell = (CELL, CELL, CELL if dims == 3 else 1)
    other = random_encoder(network.encoder)
    names = sorted({name for _, labels in made for name in np.unique(labels)})
    read: dict[str, dict[str, list[np.ndarray]]] = {layer.name: {} for layer in layers}
    labels, groups = [], []
    for number, (image, tissue) in enumerate(made):
        places = Places(np.searchsorted(names, tissue), cell, block=10**6)
        if dims == 2:  # every eighth slice, as the volumes have cells
            kept = places.index[:, 2] % CELL == CELL // 2
            places.index, places.labels = places.index[kept], places.labels[kept]
        labels.append(places.labels)
        groups.append(np.full(len(places.labels), number))
        sources = {"level": network.encoder, "random weights": other}
        for source, encoder in sources.items():
            if encoder is None:
                continue
            for name, values in features_of(encoder, image, dims).items():
                stride = next(layer.stride for layer in layers if layer.name == name)
                read[name].setdefault(source, []).append(places.read(values, stride))
        for layer in layers:
            found = places.read_dct(np.asarray(image, np.float32), layer.stride, layer.channels)
            read[layer.name].setdefault("dct", []).append(found)
    truth, group = np.concatenate(labels), np.concatenate(groups)
    rows = []
    for layer in layers:
        row: dict[str, Any] = {"bundle": bundle, "level": layer.name, "values": layer.channels}
        for source, parts in read[layer.name].items():
            row[source] = linear_probe(np.concatenate(parts), truth, group).accuracy
        dealt = linear_probe(np.concatenate(read[layer.name]["level"]), shuffled(truth, group), group)
        rows.append(
            {**row, "shuffled labels": dealt.accuracy, "chance": dealt.chance, "places": dealt.places}
        )
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundles", nargs="+", default=["volume_autoencoder", "slice_autoencoder"])
    parser.add_argument("--volumes", type=int, default=24)
    parser.add_argument("--shape", type=int, nargs=3, default=[96, 96, 64])
    parser.add_argument("--modality", choices=["CT", "MR"], default="CT")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    made = volumes(options.volumes, tuple(options.shape), options.seed, options.modality)
    rows = [row for bundle in options.bundles for row in table(bundle, made)]
    for row in rows:
        print("  ".join(f"{k}: {v:.3f}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()))
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
