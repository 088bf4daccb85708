"""Errors over the body, over tissues, and over the regions of a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medrecon.evaluation.marked import Marked
from medrecon.evaluation.scores import BODY, RegionError
from medrecon.intensity_range import intensity_range

TISSUES: dict[str, tuple[float, float]] = {
    "lung": (-950.0, -500.0),
    "fat": (-190.0, -30.0),
    "soft tissue": (-30.0, 150.0),
    "contrast": (150.0, 300.0),
    "bone": (300.0, 3072.0),
}
"""CT tissue windows, HU of the source, lower end included: a voxel belongs by its value and its place in the
body alone, so that dense vessels count as bone and spongy bone as contrast."""

_BODY_HU = -500.0
_BODY_SHARE = 0.08  # of the robust range, for units other than HU
_PLANES = 1 << 20


def body_mask(volume: np.ndarray, units: str) -> np.ndarray:
    """Mark the body: the largest object above a threshold, holes (lungs, bowel) filled in each slice.

    The threshold is -500 HU, or 8 % of the robust range for other units. Found at half the resolution in each
    slice; objects that touch across a voxel's face are one.

    Args:
        volume: (X, Y, Z), any dtype.
        units: "HU", or anything else.

    Returns:
        (X, Y, Z) bool; all True where nothing stands out.
    """
    if units == "HU":
        level = _BODY_HU
    else:
        low, high = intensity_range(volume, units)
        level = low + _BODY_SHARE * (high - low)
    coarse = np.ascontiguousarray(volume[::2, ::2] > level)
    labels, count = ndimage.label(coarse)
    if count == 0:
        return np.ones(volume.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    coarse = labels == sizes.argmax()
    for plane in range(coarse.shape[2]):
        coarse[:, :, plane] = ndimage.binary_fill_holes(coarse[:, :, plane])
    return np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[: volume.shape[0], : volume.shape[1]]


class Regions:
    """The regions of one scan, ready for any number of reconstructions.

    Args:
        source: (X, Y, Z) in `units`, any dtype.
        units: "HU": the tissues are regions, too.
        body: as `body_mask` gives it.
        marked: parts of it that are regions, too, by name; they may overlap.
    """

    def __init__(
        self, source: np.ndarray, units: str, body: np.ndarray, marked: Sequence[Marked] = ()
    ) -> None:
        self.names = ["", BODY]
        self._tissue = body.astype(np.uint8)
        if units == "HU":
            for name, (low, high) in TISSUES.items():
                self._tissue[body & (source >= low) & (source < high)] = len(self.names)
                self.names.append(name)
        self._marked = tuple(marked)

    def errors(self, source: np.ndarray, recon: np.ndarray) -> dict[str, RegionError]:
        """Errors of a reconstruction over each region that holds a voxel; "body" is all of the body."""
        tissue = _Sums(len(self.names))
        step = max(1, _PLANES // (source.shape[1] * source.shape[2]))
        for start in range(0, len(source), step):
            part = slice(start, start + step)
            error = np.subtract(recon[part], source[part], dtype=np.float32)
            tissue.add(self._tissue[part].ravel(), error.ravel())
        found = {BODY: tissue.over(list(range(1, len(self.names))))}
        found |= {name: tissue.over([k]) for k, name in enumerate(self.names) if k > 1}
        for each in self._marked:
            inside = _Sums(1)
            error = np.subtract(recon[each.box], source[each.box], dtype=np.float32)[each.inside]
            inside.add(np.zeros(error.shape, np.uint8), error)
            found[each.name] = inside.over([0])
        return {name: error for name, error in found.items() if error.voxels}


class _Sums:
    def __init__(self, count: int) -> None:
        self._sums = np.zeros((4, count))

    def add(self, labels: np.ndarray, error: np.ndarray) -> None:
        """Take in the labels of voxels, and their errors."""
        error = error.astype(np.float64)
        count = self._sums.shape[1]
        labels = labels.astype(np.intp)  # once: each of the counts below would do it again
        self._sums[0] += np.bincount(labels, minlength=count)
        for row, weights in enumerate((error, np.abs(error), np.square(error)), start=1):
            self._sums[row] += np.bincount(labels, weights=weights, minlength=count)

    def over(self, which: Sequence[int]) -> RegionError:
        voxels, signed, absolute, squares = self._sums[:, which].sum(axis=1)
        if not voxels:
            return RegionError(0, math.nan, math.nan, math.nan)
        return RegionError(
            int(voxels), float(absolute / voxels), math.sqrt(squares / voxels), float(signed / voxels)
        )


def region_words(units: str) -> Mapping[str, str]:
    """Say how each region is defined, for reports: name -> words."""
    if units != "HU":
        return {BODY: f"largest object above {_BODY_SHARE:.0%} of the robust range, holes filled"}
    words = {BODY: f"largest object above {_BODY_HU:g} HU, holes filled"}
    return words | {name: f"{low:g} to {high:g} HU in the body" for name, (low, high) in TISSUES.items()}
