"""The range of a scan's values that counts: a window in HU, a robust range in other units."""

from __future__ import annotations

import math

import numpy as np

HU_WINDOW = (-1024.0, 3071.0)
"""The 12 bits that CT scanners store, in HU: 4095 between its ends."""

PERCENTILES = (0.5, 99.5)

_SAMPLE = 1 << 20  # voxels that percentiles are taken from
_DOMINANT = 0.1  # share of the voxels from which on one value is a background


def intensity_range(
    array: np.ndarray,
    units: str,
    window: tuple[float, float] = HU_WINDOW,
    percentiles: tuple[float, float] = PERCENTILES,
) -> tuple[float, float]:
    """Say which two stored values become 0 and 1: for a network's input, and for the range of a PSNR.

    HU have a meaning of their own, so for `units` "HU" it is `window`, whatever the image holds. All other
    units get a robust range: `percentiles` of the image.

    One value that fills a tenth of the image or more (the zeros around a skull-stripped brain or a resampled
    volume) is a background, not signal: it would pull both percentiles towards itself, the more the larger
    the margin, so that the same brain came out darker in a tighter crop. It is left out of the percentiles
    and the range is then widened to hold it, so that it never falls outside [0, 1]. A constant image, where
    nothing else is left, gets a range of one unit (wider where float32 could not tell one unit).

    Percentiles come from about 2**20 voxels: every n-th one (counted along the last axis first), n having no
    common factor with the number of voxels, so that each row and column takes part. The answer depends on the
    values alone, not on memory layout or chance.

    Args:
        array: the image in stored units, any shape.
        units: "HU", or anything else.
        window: for HU: the values that become 0 and 1.
        percentiles: for other units: the percentiles that become 0 and 1.

    Returns:
        (low, high), low < high.

    Raises:
        ValueError: the image holds no finite value.
    """
    if units == "HU":
        return float(window[0]), float(window[1])
    sample = _sample(np.asarray(array))
    found, counts = np.unique(sample, return_counts=True)
    most = int(counts.argmax())
    background = float(found[most])
    if len(found) == 1:
        return background, background + max(1.0, abs(background) * 2**-10)
    if counts[most] < _DOMINANT * sample.size:
        low, high = (float(v) for v in np.percentile(sample, percentiles))
    else:
        low, high = (float(v) for v in np.percentile(sample[sample != found[most]], percentiles))
        low, high = min(low, background), max(high, background)
    return (low, high) if low < high else (float(found[0]), float(found[-1]))


def _sample(array: np.ndarray) -> np.ndarray:
    """Take at most about 2**20 finite values, evenly spread and always the same."""
    step = max(1, array.size // _SAMPLE)
    while math.gcd(step, array.size) > 1:
        step += 1
    sample = array.reshape(-1) if step == 1 else array.flat[::step]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        raise ValueError("the image holds no finite value")
    return np.asarray(sample)
