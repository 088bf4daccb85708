"""The error of a reconstruction relative to how much there is to reconstruct."""

from __future__ import annotations

import math

import numpy as np

from medrecon.errors import UsageError

_SLAB = 1 << 22  # voxels taken in at once


def normalised_error(source: np.ndarray, recon: np.ndarray) -> float:
    """Euclidean distance to the source, over the distance of the source from its own mean.

    0: nothing was lost; 1: no better than a flat image of the source's mean value. Dosovitskiy & Brox
    ("Inverting visual representations with convolutional networks", CVPR 2016) divide by the average distance
    between pairs of images of their test set, which a single scan does not have; here the flat image of its
    mean stands for the other images. The distance between two images that vary independently about one mean
    is the square root of 2 times that to the mean, so figures here are the larger by up to that factor.

    Args:
        source: (X, Y, Z) or (X, Y), any units and dtype.
        recon: the same shape and units.

    Returns:
        the ratio; 0 for a constant source that is met exactly, infinity for one that is not.

    Raises:
        UsageError: the shapes differ, or are not those of an image.
    """
    source, recon = np.asarray(source), np.asarray(recon)
    check_pair(source, recon)
    order = sorted(range(source.ndim), key=lambda axis: -abs(source.strides[axis]))
    x, y = source.transpose(order), recon.transpose(order)
    planes = max(1, _SLAB // math.prod(x.shape[1:]))
    slabs = [slice(start, start + planes) for start in range(0, len(x), planes)]
    mean = sum(float(x[slab].sum(dtype=np.float64)) for slab in slabs) / x.size
    lost = total = 0.0
    for slab in slabs:
        ours = x[slab].astype(np.float64)
        lost += float(np.square(y[slab] - ours).sum())
        total += float(np.square(ours - mean).sum())
    if total == 0:
        return 0.0 if lost == 0 else math.inf
    return math.sqrt(lost / total)


def check_pair(source: np.ndarray, recon: np.ndarray) -> None:
    """Raise UsageError unless both are images of one shape."""
    if source.shape != recon.shape or source.ndim not in (2, 3) or not source.size:
        raise UsageError(
            f"cannot compare volumes of shape {source.shape} and {recon.shape}",
            remedy="give a source and a reconstruction on the same grid, (X, Y, Z)",
        )
