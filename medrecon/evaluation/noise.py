"""How noisy a scan is: the size below which an error cannot be told from the scan's own noise."""

from __future__ import annotations

import math

import numpy as np

_GAIN = 6.0  # of the filter on white noise: the root of the sum of its squared weights
_TO_DEVIATION = 1.4826  # median of absolute values -> standard deviation of a normal distribution
_MOST_SLICES = 64


def noise_level(volume: np.ndarray, body: np.ndarray) -> float:
    """Estimate the standard deviation of the noise from voxel to voxel, in the body.

    Each slice is filtered with the difference of two Laplacians, which is blind to planes and to straight
    edges along the axes (Immerkaer, "Fast noise variance estimation", 1996); of the responses the median
    counts, not the mean, so that detail is taken for noise as little as can be. Noise that the scanner has
    smoothed, or that was interpolated, comes out too small: never too large a tolerance.

    Args:
        volume: (X, Y, Z) in source units.
        body: (X, Y, Z) bool, where to look.

    Returns:
        source units; 0 where neighbours are equal, NaN where the volume is less than three voxels wide.
    """
    if min(volume.shape[:2]) < 3:
        return math.nan
    step = max(1, -(-volume.shape[2] // _MOST_SLICES))
    found = []
    for plane in range(volume.shape[2] // 2 % step, volume.shape[2], step):
        image = volume[:, :, plane].astype(np.float64)
        response = np.diff(np.diff(image, 2, axis=0), 2, axis=1)
        found.append(np.abs(response[body[1:-1, 1:-1, plane]]))
    responses = np.concatenate(found)
    return float(np.median(responses)) * _TO_DEVIATION / _GAIN if responses.size else math.nan
