"""What a linear read-out of features tells of the parts of a body: organs, tissues, the labels of a mask."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrecon.blocks.dct import low_frequencies
from medrecon.errors import UsageError

FOLDS = 5
_FEWEST = 20
"""Places that a label must have to be asked for."""

_SHRINK = 1e-2
"""The ridge: its weight beside features of variance 1."""


@dataclass(frozen=True)
class ProbeScore:
    """How well a linear read-out tells labels.

    Attributes:
        accuracy: balanced accuracy, the mean over labels of the share of its places that is told right, on
            groups that the read-out was not fitted to.
        chance: of a read-out that guesses, 1 / labels.
        labels: how many there are.
        places: how many were told.
        values: numbers that it read at each place.
    """

    accuracy: float
    chance: float
    labels: int
    places: int
    values: int


def linear_probe(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> ProbeScore:
    """Fit a ridge classifier (Hoerl and Kennard 1970) to some groups of places, and ask it of the others.

    Each label counts alike, however rare. The groups are shared out over five folds at random; no place is
    told by a read-out that was fitted to its group.

    Args:
        features: (places, values).
        labels: (places,) whole numbers.
        groups: (places,) the block or scan that a place belongs to.
        seed: of the folds.

    Raises:
        UsageError: fewer than two labels that two groups have, or fewer than two groups.
    """
    kept = np.isin(labels, _told(labels, groups))
    if len(np.unique(labels[kept])) < 2:
        raise UsageError(
            "a linear probe needs two labels that lie in two blocks or more each",
            remedy="give a larger scan, or a mask of larger parts",
        )
    features, groups = features[kept].astype(np.float64), groups[kept]
    names, labels = np.unique(labels[kept], return_inverse=True)
    every = np.random.default_rng(seed).permutation(np.unique(groups))
    folds = np.array_split(every, min(FOLDS, len(every)))
    told = np.empty(len(labels), np.int64)
    for fold in folds:
        asked = np.isin(groups, fold)
        told[asked] = _ridge(features[~asked], labels[~asked], len(names), features[asked])
    right = [float((told[labels == k] == k).mean()) for k in range(len(names))]
    return ProbeScore(
        sum(right) / len(right), 1 / len(names), len(names), len(labels), int(features.shape[1])
    )


def shuffled(labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """The control: the labels dealt out anew, as many of each. What is then told is chance."""
    return np.random.default_rng(seed).permutation(labels)


def _told(labels: np.ndarray, groups: np.ndarray) -> list[int]:
    """Labels with enough places, in two groups at least."""
    return [
        int(label)
        for label in np.unique(labels)
        if (labels == label).sum() >= _FEWEST and len(np.unique(groups[labels == label])) > 1
    ]


def _ridge(features: np.ndarray, labels: np.ndarray, count: int, asked: np.ndarray) -> np.ndarray:
    """The labels (0 ... count - 1) of `asked`, from those of `features`."""
    middle, spread = features.mean(0), features.std(0)
    spread[spread < 1e-9 * max(1.0, float(np.abs(middle).max()))] = 1.0
    seen = np.concatenate([(features - middle) / spread, np.ones((len(features), 1))], axis=1)
    weight = 1 / np.maximum(1, np.bincount(labels, minlength=count))[labels]
    weight *= len(labels) / weight.sum()
    wanted = np.where(labels[:, None] == np.arange(count), 1.0, -1.0)
    weighted = seen * weight[:, None]
    square = seen.T @ weighted + _SHRINK * len(seen) * np.eye(seen.shape[1])
    answer = np.linalg.solve(square, weighted.T @ wanted)
    ahead = np.concatenate([(asked - middle) / spread, np.ones((len(asked), 1))], axis=1)
    told: np.ndarray = (ahead @ answer).argmax(1)
    return told


def _commonest(mask: np.ndarray, cell: Sequence[int]) -> np.ndarray:
    """The label that most voxels of each cell have; of as many the smaller. (X, Y, Z) / cell."""
    grid = [n // c for n, c in zip(mask.shape, cell, strict=True)]
    x, y, z = (n * c for n, c in zip(grid, cell, strict=True))
    cells = mask[:x, :y, :z].reshape(grid[0], cell[0], grid[1], cell[1], grid[2], cell[2])
    best = np.zeros(grid, np.int64)
    most = np.zeros(grid, np.int64)
    for value in np.unique(mask):
        count = (cells == value).sum(axis=(1, 3, 5))
        best[count > most] = value
        most = np.maximum(most, count)
    return best


class Places:
    """Where a volume is asked: the middles of cells, in blocks that do not touch.

    Args:
        mask: (X, Y, Z) whole numbers: the label of each voxel.
        cell: voxels of a cell along each axis (1 along an axis whose slices are read one by one, say).
        block: cells of a block along each axis; those at its rim are left out, so that blocks lie two cells
            apart.
    """

    def __init__(self, mask: np.ndarray, cell: Sequence[int] = (8, 8, 8), block: int = 8) -> None:
        self.cell = tuple(cell)
        grid = [n // c for n, c in zip(mask.shape, self.cell, strict=True)]
        index = np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), axis=-1).reshape(-1, 3)
        inner = np.ones(len(index), bool)
        group = np.zeros(len(index), np.int64)
        for axis, count in enumerate(grid):
            place = index[:, axis]
            if count > block:
                inner &= (place % block > 0) & (place % block < block - 1)
            group = group * (count // block + 1) + place // block
        self.index, self.groups = index[inner], group[inner]
        self.labels = _commonest(mask, self.cell)[tuple(self.index.T)]

    def asks(self) -> bool:
        """Whether two labels have places enough, in two blocks each."""
        return len(_told(self.labels, self.groups)) > 1

    def thinned(self, most: int, seed: int = 0) -> Places:
        """The same with at most so many places of each label, drawn at random."""
        chance, made = np.random.default_rng(seed), copy.copy(self)
        drawn = [chance.permutation(np.flatnonzero(self.labels == k))[:most] for k in np.unique(self.labels)]
        kept = np.sort(np.concatenate(drawn))
        made.index, made.groups, made.labels = self.index[kept], self.groups[kept], self.labels[kept]
        return made

    def read(self, features: np.ndarray, stride: Sequence[int]) -> np.ndarray:
        """The feature vector at each place: that of the position which holds the middle of the cell.

        Args:
            features: (C, *positions) of a volume, or (slices, C, *positions) of its slices.
            stride: voxels of a position, three of them or two.

        Returns:
            (places, C) float32.
        """
        middle = [p * c + c // 2 for p, c in zip(self.index.T, self.cell, strict=True)]
        where = tuple(m // s for m, s in zip(middle, stride, strict=False))
        if len(stride) == 3:
            found = features[(slice(None), *where)].T
        else:
            found = features[(middle[2], slice(None), *where)]
        return np.ascontiguousarray(found, np.float32)

    def read_dct(self, volume: np.ndarray, stride: Sequence[int], count: int) -> np.ndarray:
        """The control: as many DCT values of the voxels that such a position stands for.

        Args:
            volume: (X, Y, Z).
            stride: as in `read`.
            count: values, lowest frequencies first.
        """
        dims, size = len(stride), stride[0]
        frequencies = low_frequencies(size, dims, count).numpy()
        line = np.cos(np.pi * np.arange(size)[:, None] * (2 * np.arange(size) + 1) / (2 * size))
        basis = np.ones((count, 1))
        for wanted in frequencies.T:
            basis = (basis[:, :, None] * line[wanted][:, None, :]).reshape(count, -1)
        middle = [p * c + c // 2 for p, c in zip(self.index.T, self.cell, strict=True)]
        sides = [(0, -n % s) for n, s in zip(volume.shape, (*stride, 1), strict=False)]
        padded = np.pad(volume, sides, "edge")
        out = np.empty((len(self.index), count), np.float32)
        known: dict[tuple[int, ...], np.ndarray] = {}
        for row, place in enumerate(zip(*middle, strict=True)):
            first = tuple(int(p) // s * s for p, s in zip(place, stride, strict=False))
            key = first if dims == 3 else (*first, int(place[2]))
            if key not in known:
                part = padded[tuple(slice(f, f + size) for f in first)]
                values = part if dims == 3 else part[..., int(place[2])]
                known[key] = basis @ values.reshape(-1) / math.sqrt(size**dims)
            out[row] = known[key]
        return out
