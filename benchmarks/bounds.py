"""How much of a scan is noise, and the PSNR beyond which a code of few values would have to keep it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

_MAD = 0.6744897501960817  # median of the absolute value of a standard normal variable


@dataclass(frozen=True)
class Noise:
    """An estimate of a scan's noise.

    Attributes:
        sigma: standard deviation, in the scan's units.
        share: of the voxels that are in no flat place: padding and emptied background hold no noise.
    """

    sigma: float
    share: float

    def bound(self, peak: float, values_per_voxel: float) -> float:
        """PSNR in dB over `peak` that a code reaches when it keeps all of the signal and none of the noise.

        White noise of variance sigma^2 has that much energy in every coefficient of every orthonormal
        transform. Of the share s of the voxels that are noisy, a code of r values per voxel leaves at least
        s - r of the coefficients out, and with them their noise: MSE >= sigma^2 (s - r), which is
        sigma^2 (1 - r) for a scan without flat places. To be above, values must be spent on noise because it
        is large. Infinite where there is a value for each noisy voxel.
        """
        lost = self.sigma**2 * max(0.0, self.share - values_per_voxel)
        return 10 * math.log10(peak**2 / lost) if lost else math.inf


def estimate_noise(values: np.ndarray) -> Noise:
    """The noise of a volume, from its finest diagonal wavelet coefficients.

    sigma = median |d| / 0.6745, d the Haar coefficients that change sign along each axis, of cubes of
    2 x 2 x 2 (Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 81, 1994,
    425-455); 2 x 2 where there is one slice. Cubes of eight equal values are flat and left out. Where values
    are whole numbers the median is that of the grouped data.

    What it cannot see: noise that neighbours share (resampled volumes, soft kernels, interpolated MR) has
    little in the finest coefficients, so sigma comes out too low and the bound too high; a background
    of another noise than the organ's (Rician in MR: 0.655 sigma in air) or noise that varies over the image
    moves the median; fine structure that fills more than half of the image is taken for noise.

    Args:
        values: (X, Y, Z), any dtype; what a PSNR clips is best clipped before.
    """
    axes = [axis for axis in range(values.ndim) if values.shape[axis] > 1]
    even = tuple(slice(0, n // 2 * 2) if n > 1 else slice(None) for n in values.shape)
    cube = values[even].astype(np.float32)
    corners = []
    for places in itertools.product((0, 1), repeat=len(axes)):
        index: list[slice] = [slice(None)] * values.ndim
        for axis, place in zip(axes, places, strict=True):
            index[axis] = slice(place, None, 2)
        corners.append((1 if sum(places) % 2 == 0 else -1, cube[tuple(index)]))
    if not corners or not corners[0][1].size:
        return Noise(0.0, 0.0)
    detail = sum(sign * corner for sign, corner in corners)
    same = np.logical_and.reduce([corner == corners[0][1] for _, corner in corners])
    moving = np.abs(np.asarray(detail)[~same]) / math.sqrt(len(corners))
    if not moving.size:
        return Noise(0.0, 0.0)
    return Noise(_grouped_median(moving) / _MAD, moving.size / same.size)


def _grouped_median(values: np.ndarray) -> float:
    """The median; among ties, by linear interpolation between the middles of the groups."""
    found, counts = np.unique(values, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / values.size
    return float(np.interp(0.5, middle, found))
