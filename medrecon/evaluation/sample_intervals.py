"""Intervals for each voxel from samples of a generative decoder, and what all samples agree on.

The interval of n samples is that of one more of them: mean +- t * s * sqrt(1 + 1 / n), with Student's t of
n - 1 degrees of freedom (Hahn & Meeker, "Statistical Intervals", 1991, section 4.7). It is calibrated by
split-conformal prediction with normalised residuals (Papadopoulos et al. 2002; Angelopoulos & Bates,
arXiv:2107.07511, section 2.3): s is multiplied with what holds as much as stated on one half of the blocks.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import t as student

from medrecon.evaluation.sample_scores import SampleInterval
from medrecon.evaluation.uncertainty import conformal_interval, conformal_quantile, local_detail

LEVELS = (0.5, 0.9)
"""Shares of voxels that intervals are to hold."""

DRAWN, CALIBRATED, CONFORMAL = "samples", "samples, calibrated", "decoder, calibrated"
"""Ways to an interval: the samples as they are, the same calibrated, and that of the decoder's one answer."""

_SMALLEST = 1e-4  # of the source's range: less than this no standard deviation is


def sample_intervals(
    source: np.ndarray,
    recon: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray,
    count: int,
    body: np.ndarray,
    calibrate: np.ndarray,
) -> tuple[SampleInterval, ...]:
    """How much of a scan lies within each kind of interval, on blocks that none is calibrated on.

    Args:
        source: (X, Y, Z), source units.
        recon: the decoder's one answer.
        mean: of the samples.
        deviation: standard deviation of the samples (n - 1).
        count: how many samples there were, two or more.
        body: (X, Y, Z) bool: where coverage and width are measured.
        calibrate: (X, Y, Z) bool, see `calibration_blocks`.

    Returns:
        One for each way and level; coverage is NaN where no body is held out.
    """
    there, held = body & calibrate, body & ~calibrate
    floor = np.float32(_SMALLEST * float(np.ptp(source)) or _SMALLEST)
    spread = np.maximum(deviation, floor)
    off = np.abs(np.subtract(source, mean, dtype=np.float32)) / spread
    width = float(spread[body].mean(dtype=np.float64)) if body.any() else math.nan
    detail, found = local_detail(recon), []
    for level in LEVELS:
        factor = float(student.ppf((1 + level) / 2, count - 1)) * math.sqrt(1 + 1 / count)
        found.append(SampleInterval(DRAWN, level, _share(off, held, factor), factor * width))
        factor = conformal_quantile(off[there], level)
        found.append(SampleInterval(CALIBRATED, level, _share(off, held, factor), factor * width))
        beside = conformal_interval(source, recon, detail, body, calibrate, level)
        found.append(SampleInterval(CONFORMAL, level, beside.coverage, beside.mean))
    return tuple(found)


def _share(off: np.ndarray, held: np.ndarray, factor: float) -> float:
    values = off[held]
    return float((values <= factor).mean()) if len(values) else math.nan


def agreement(detail_of_mean: np.ndarray, mean_variance: np.ndarray, count: int) -> np.ndarray:
    """Share of the samples' local detail that all of them have in common, at each voxel.

    Within a window, the variance of one sample is that of what all show and that of what each makes up; of
    the latter the mean of n samples keeps an n-th. What all show follows from the two, as in an analysis of
    variance (Shrout & Fleiss 1979).

    Args:
        detail_of_mean: `local_detail` of the mean of the samples.
        mean_variance: mean over the samples of the square of their `local_detail`.
        count: how many samples there were, two or more.

    Returns:
        (X, Y, Z) float32: 1 the same detail in all samples, 0 each has its own; also 0 where there is none.
    """
    share = np.divide(
        np.square(detail_of_mean), mean_variance, out=np.zeros_like(mean_variance), where=mean_variance > 0
    )
    return np.clip((count * share - 1) / (count - 1), 0, 1).astype(np.float32)
