"""What a linear read-out of each layer tells of the labels of a mask, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch

from medrecon.atlas.probe import random_encoder
from medrecon.contract import Encoder
from medrecon.errors import UsageError
from medrecon.evaluation.linear_probe import Places, linear_probe, shuffled
from medrecon.evaluation.scores import Told
from medrecon.reconstructor import Reconstructor, parse_layers

_CELLS = (8, 4, 2)
"""Voxels of a cell: the largest that finds two labels in two blocks each."""

_AROUND = 32
"""Voxels beyond the mask that are asked too: what surrounds the labels."""

_MOST_VOXELS = 1 << 23
_MOST_PLACES = 4000


class LabelProbe:
    """The labels of a mask, told from the features of positions that a read-out was not fitted to.

    Places are cells of voxels in blocks that do not touch, in and around the mask; all that the mask does not
    mark is one more label. A place has the feature vector of the position that holds it.

    Args:
        network: whose layers are asked.
        image: (1, 1, X, Y, Z) as the network takes it, with its affine.
        mask: (X, Y, Z) whole numbers, on the scan's grid.
        affine: of the mask.

    Raises:
        UsageError: the mask is too small to ask and to check: two labels in two blocks each are needed.
    """

    def __init__(
        self, network: Reconstructor, image: MetaTensor, mask: np.ndarray, affine: np.ndarray
    ) -> None:
        encoder = network.encoder
        labels = _on_grid(mask, affine, image)
        deepest = [
            max(layer.stride[axis] for layer in network.layers()) for axis in range(encoder.spatial_dims)
        ]
        box = _box(labels, (*deepest, 1)[:3], whole=encoder.window is not None)
        inside = (slice(None), slice(None), *box)
        self._whole, self._image = image.as_tensor(), image.as_tensor()[inside].contiguous()
        self._dims = encoder.spatial_dims
        self._places = _places(labels[box], self._dims)
        self._network = network
        self._other = random_encoder(encoder)
        self._infos = {layer.name: layer for layer in network.layers()}

    def told(self, result: str) -> Told:
        """How well the places are told from the features of a result's layers."""
        names = parse_layers(result)
        labels, groups = self._places.labels, self._places.groups
        features = self._read(self._network.encoder, names)
        score = linear_probe(features, labels, groups)
        volume = self._image[0, 0].float().cpu().numpy()
        dct = [self._places.read_dct(volume, self._infos[n].stride, self._infos[n].channels) for n in names]
        other = None
        if self._other is not None:
            other = linear_probe(self._read(self._other, names), labels, groups).accuracy
        return Told(
            accuracy=score.accuracy,
            dct=linear_probe(np.concatenate(dct, axis=1), labels, groups).accuracy,
            random=other,
            shuffled=linear_probe(features, shuffled(labels, groups), groups).accuracy,
            chance=score.chance,
            labels=score.labels,
            places=score.places,
        )

    @property
    def cell(self) -> tuple[int, ...]:
        """Voxels of a place along each axis."""
        return self._places.cell

    def _read(self, encoder: Encoder, names: Sequence[str]) -> np.ndarray:
        """(places, values) of all these layers."""
        device = next((p.device for p in encoder.parameters()), self._image.device)
        found = []
        with (
            torch.inference_mode(),
            self._network.precision(device),
            encoder.conditioned_on(_given(self._whole, self._dims)),
        ):
            features = encoder(_given(self._image, self._dims).to(device), list(names))
        for name in names:
            values = features[name].float().cpu().numpy()
            found.append(
                self._places.read(values[0] if self._dims == 3 else values, self._infos[name].stride)
            )
        return np.concatenate(found, axis=1)


def _given(image: torch.Tensor, dims: int) -> torch.Tensor:
    """A volume as the encoder takes it: slices are a batch before an encoder of slices."""
    return image if dims == 3 else image[0].permute(3, 0, 1, 2).contiguous()


def _on_grid(mask: np.ndarray, affine: np.ndarray, image: MetaTensor) -> np.ndarray:
    """The labels on the grid that the network works on."""
    here = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None],
        affine=torch.from_numpy(np.asarray(affine, dtype=np.float64)),
    )
    there = MetaTensor(
        image.as_tensor()[0], affine=image.affine[0] if image.affine.ndim == 3 else image.affine
    )
    moved = ResampleToMatch(mode="nearest", padding_mode="zeros")(here, img_dst=there)
    return np.rint(moved[0].numpy()).astype(np.int64)


def _box(labels: np.ndarray, step: Sequence[int], whole: bool) -> tuple[slice, ...]:
    """Where the mask is, and what surrounds it; from positions of the deepest layer on."""
    if whole:
        return tuple(slice(0, n) for n in labels.shape)
    marked = np.argwhere(labels != 0)
    if not len(marked):
        raise UsageError("the mask marks nothing on the network's grid", remedy="look at where it lies")
    first, last = marked.min(0), marked.max(0) + 1
    margin = _AROUND
    while True:
        box = tuple(
            slice(max(0, (a - margin) // s * s), min(n, -(-(b + margin) // s) * s))
            for a, b, s, n in zip(first, last, step, labels.shape, strict=True)
        )
        if margin == 0 or np.prod([part.stop - part.start for part in box]) <= _MOST_VOXELS:
            return box
        margin //= 2


def _places(labels: np.ndarray, dims: int) -> Places:
    for cell in _CELLS:
        places = Places(labels, (cell, cell, cell if dims == 3 else 1))
        if places.asks():
            return places.thinned(_MOST_PLACES)
    raise UsageError(
        "the mask is too small for a read-out that is asked where it was not fitted",
        remedy="mark parts that reach over 64 voxels, or several of them",
    )
