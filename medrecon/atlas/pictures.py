"""Layers of a scan to be looked at: three principal components as colour, and the strongest channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor

from medrecon.blocks.weights import fingerprint
from medrecon.contract import Encoder, LayerInfo, Progress
from medrecon.encoders.offsets import doubts, measure_offsets
from medrecon.evaluation.scores import LayerPictures
from medrecon.features.maps.components import COLOURS, Components
from medrecon.features.maps.compute import grid_shape, visit_features
from medrecon.features.maps.writing import layer_affine
from medrecon.inference.memory import free_bytes

STRONGEST = 4
"""Channels of a layer that are shown: those of the largest variance."""

_SAMPLE = 1 << 14
"""Positions of a layer, at most, from which its components and its channels are chosen."""

_SLAB = 1 << 22
"""Voxels of the slices in the middle of a scan from which these are taken."""

_SHARE = 4  # of the free memory, the part that the pictures may take
_ENDS = (1.0, 99.0)


class Pictures:
    """Makes the pictures of layers of a network.

    What is shown is chosen in the middle of the scan; then the network runs over the whole of it once, and
    all is kept in steps of 8 bits, on each layer's own grid.

    Args:
        encoder: on `device`.
        layers: those to show.
        device: where it runs.

    Attributes:
        notes: what must be said of the last scan.
    """

    def __init__(self, encoder: Encoder, layers: Sequence[LayerInfo], device: torch.device) -> None:
        self.encoder, self.layers, self.device = encoder, list(layers), device
        self.places = measure_offsets(encoder, self.layers)
        self.notes: list[str] = []

    def of(self, image: MetaTensor, progress: Progress | None = None) -> dict[str, LayerPictures]:
        """The pictures of a scan.

        Args:
            image: (C, X, Y, Z) in [0, 1] on the network's grid, with its affine.
            progress: called with (pieces done, pieces in all).
        """
        plain, affine = image.as_tensor(), image.affine.detach().cpu().numpy().astype(np.float64)
        shape = tuple(int(n) for n in plain.shape[1:])
        layers = self._fitting(shape)
        components = Components(fingerprint(self.encoder))
        chosen: dict[str, tuple[list[int], np.ndarray]] = {}
        for name, sample in self._samples(plain, layers).items():
            chosen[name] = _choose(components, name, sample)
        colours: dict[str, np.ndarray] = {}
        strongest: dict[str, np.ndarray] = {}
        for info in layers:
            grid = grid_shape(info, shape)
            colours[info.name] = np.zeros((COLOURS, *grid), np.uint8)
            strongest[info.name] = np.zeros((len(chosen[info.name][0]), *grid), np.uint8)

        def take(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            channels, ends = chosen[name]
            place = (slice(None), *where)
            colours[name][place] = components.colour(name, components.project(name, values).numpy())
            strongest[name][place] = _levels(values[channels].numpy(), ends)

        if layers:
            visit_features(self.encoder, plain, layers, self.device, take, progress)
        return {
            info.name: LayerPictures(
                layer_affine(affine, info.stride, self.places[info.name].offset),
                colours[info.name],
                tuple(components.shares[info.name]),
                strongest[info.name],
                tuple(chosen[info.name][0]),
                tuple((float(low), float(high)) for low, high in chosen[info.name][1].T),
            )
            for info in layers
        }

    def _fitting(self, shape: Sequence[int]) -> list[LayerInfo]:
        """The layers whose pictures fit into memory, smallest first considered."""
        size = {
            info.name: (COLOURS + min(STRONGEST, info.channels)) * math.prod(grid_shape(info, shape))
            for info in self.layers
        }
        room = free_bytes(torch.device("cpu")) // _SHARE
        kept = set()
        for name in sorted(size, key=lambda name: size[name]):
            room -= size[name]
            if room >= 0:
                kept.add(name)
        left_out = [info.name for info in self.layers if info.name not in kept]
        self.notes = [f"features not shown, too large: {', '.join(left_out)}"] if left_out else []
        self.notes += doubts({name: place for name, place in self.places.items() if name in kept})
        return [info for info in self.layers if info.name in kept]

    def _samples(self, image: torch.Tensor, layers: Sequence[LayerInfo]) -> dict[str, torch.Tensor]:
        """Layer -> (C, N): features at positions all over the middle of the scan."""
        count = max(16, _SLAB // math.prod(image.shape[1:3]) // 16 * 16)
        start = max(0, (image.shape[3] - count) // 2 // 16 * 16)
        slab = image[..., start : start + count]
        parts: dict[str, list[torch.Tensor]] = {}

        def take(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            positions = math.prod(grid_shape(next(i for i in layers if i.name == name), slab.shape[1:]))
            step = max(1, round((positions / _SAMPLE) ** (1 / 3)))
            parts.setdefault(name, []).append(values[:, ::step, ::step, ::step].flatten(1))

        if layers:
            visit_features(self.encoder, slab, layers, self.device, take)
        return {name: torch.cat(found, 1) for name, found in parts.items()}


def _choose(components: Components, name: str, sample: torch.Tensor) -> tuple[list[int], np.ndarray]:
    """Fit a layer's components; its channels of the largest variance, and their ends (2, N)."""
    flat = sample.double()
    components.fit(name, flat.shape[1], flat.sum(1), flat @ flat.T)
    components.colour(name, components.project(name, sample[:, :, None, None]).numpy())
    order = flat.var(1, correction=0).argsort(descending=True, stable=True)
    channels: list[int] = order[:STRONGEST].tolist()
    return channels, np.percentile(sample[channels].numpy(), _ENDS, axis=1)


def _levels(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(N, x, y, z) in steps of 8 bits between the ends (2, N)."""
    low, high = ends[:, :, None, None, None]
    return np.rint(255 * ((values - low) / np.maximum(high - low, 1e-12)).clip(0, 1)).astype(np.uint8)
