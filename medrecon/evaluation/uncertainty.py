"""How far a reconstruction may be off at each voxel, calibrated and checked; and what the decoder made up.

Mondrian (group-conditional) split-conformal prediction: Angelopoulos & Bates, "A gentle introduction to
conformal prediction and distribution-free uncertainty quantification", arXiv:2107.07511 (2021), sections 2
and 4.1; Vovk, Gammerman & Shafer, "Algorithmic learning in a random world" (2005), for the groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from medrecon.evaluation.filters import filter_valid

LEVEL = 0.9
"""The share of voxels that the stated interval is to hold."""

WINDOW = 5
"""Voxels along each axis over which local detail is taken (fewer on shorter axes)."""

_BLOCK = 16  # voxels along each edge of the blocks that are held out or calibrated on
_LEAST_BLOCKS = 6  # blocks along an axis, where the axis is long enough
_DETAILS, _VALUES = 12, 8  # groups by local detail, and by intensity
_FEWEST = 200  # voxels that a group is calibrated on; with fewer it joins the others of its detail
_MOST = 1 << 21  # voxels that are calibrated on
_SLAB = 1 << 20
_SEED = 9


def local_detail(volume: np.ndarray) -> np.ndarray:
    """Standard deviation within a window of `WINDOW` voxels a side: (X, Y, Z), float32, same units."""
    out = np.empty(volume.shape, dtype=np.float32)
    centre = np.float32(np.median(volume[::8, ::8, ::4]))
    size = [min(WINDOW, n - 1 + n % 2) for n in volume.shape]
    half = size[0] // 2
    step = max(1, _SLAB // (volume.shape[1] * volume.shape[2]))

    def work(start: int) -> None:
        low, high = max(0, start - half), min(len(volume), start + step + half)
        values = np.pad(volume[low:high], [(n // 2, n // 2) for n in size], "edge").astype(np.float32)
        values -= centre
        mean = _means(values, size)
        np.square(values, out=values)
        square = _means(values, size)
        square -= np.square(mean)
        np.maximum(square, 0, out=square)
        kept = slice(start - low, min(start + step, len(volume)) - low)
        np.sqrt(square[kept], out=out[start : start + step])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(0, len(volume), step)))
    return out


def _means(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    for axis, n in enumerate(size):
        values = filter_valid(values, np.full(n, 1 / n), axis)
    return values


def calibration_blocks(shape: Sequence[int], seed: int = _SEED) -> np.ndarray:
    """Choose a random half of a volume's blocks to calibrate on; the other half is held out.

    Blocks have 16 voxels a side, fewer along an axis that would have less than six blocks. Neighbouring
    voxels are alike, so whole blocks are held out, not single voxels.

    Returns:
        (X, Y, Z) bool, True where calibrated on. Read-only.
    """
    edges = [max(1, min(_BLOCK, n // _LEAST_BLOCKS)) for n in shape]
    grid = [math.ceil(n / edge) for n, edge in zip(shape, edges, strict=True)]
    count = math.prod(grid)
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(count)[: (count + 1) // 2]] = True
    full = chosen.reshape(grid)
    for axis, edge in enumerate(edges):
        full = np.repeat(full, edge, axis=axis)
    full = full[tuple(slice(n) for n in shape)]
    full.flags.writeable = False
    return full


@dataclass(frozen=True)
class Interval:
    """The interval of one reconstruction: at each voxel the source lies within +- `half_width` of it.

    Attributes:
        half_width: (X, Y, Z), float32, source units.
        coverage: share of the held-out blocks' body voxels inside it; NaN where no body is held out.
        mean: mean half width over the body, source units.
        tied: share of the same voxels that lie exactly at its ends, as many do where values are whole
            numbers: what is inside is `coverage - tied`.
    """

    half_width: np.ndarray
    coverage: float
    mean: float
    tied: float = 0.0


def conformal_interval(
    source: np.ndarray,
    recon: np.ndarray,
    detail: np.ndarray,
    body: np.ndarray,
    calibrate: np.ndarray,
    level: float = LEVEL,
) -> Interval:
    """State an interval for each voxel, calibrated on one half of the blocks and checked on the other.

    What the interval's width may depend on is what the decoder has: its own result. Voxels are grouped by the
    local detail of the reconstruction (12 groups) and by its intensity (8), both cut at quantiles over the
    whole volume. In each group the half width is the ceil((n + 1) level) / n quantile of |source -
    reconstruction| over the n voxels of the calibration blocks; at most 2**21 of them are used, evenly
    spread, those of the body and those around it alike. So the source decides how wide a group's interval is,
    and only on the calibration blocks; held-out blocks of the same scan tell whether it holds.

    It holds on average over a group's voxels, not for each voxel, and for scans like this one, calibrated the
    same way: it is no promise for a scan that is not calibrated on. Where errors are small whole numbers it
    holds more than `level`: its ends are whole numbers, too, and the next narrower one holds less (`tied`).

    Args:
        source: (X, Y, Z), source units.
        recon: the same.
        detail: `local_detail(recon)`.
        body: (X, Y, Z) bool: where coverage is measured.
        calibrate: (X, Y, Z) bool, see `calibration_blocks`.
        level: share of voxels that it is to hold.
    """
    spread = max(1, recon.size // _MOST)
    while math.gcd(spread, recon.size) > 1:
        spread += 1
    cuts = _cuts(detail, spread, _DETAILS), _cuts(recon, spread, _VALUES)
    here = np.flatnonzero(calibrate)[:: max(1, spread // 2)]
    groups = _groups(detail.ravel()[here], recon.ravel()[here], cuts)
    error = np.abs(source.ravel()[here].astype(np.float32) - recon.ravel()[here])
    widths = _widths(groups, error, level)
    half_width = np.empty(recon.shape, dtype=np.float32)
    step = max(1, _SLAB // (recon.shape[1] * recon.shape[2]))

    def work(start: int) -> tuple[int, int, int, int, float]:
        part = slice(start, start + step)
        width = np.take(widths, _groups(detail[part], recon[part], cuts), out=half_width[part], mode="clip")
        error = np.abs(np.subtract(source[part], recon[part], dtype=np.float32))
        here = body[part]
        test = here & ~calibrate[part]
        masks = test & (error <= width), test & (error == width), test, here
        inside, tied, held, total = (int(np.count_nonzero(mask)) for mask in masks)
        return inside, tied, held, total, float(width.sum(dtype=np.float64, where=here))

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(work, range(0, len(recon), step)))
    inside, tied, held, total, width_sum = (sum(column) for column in zip(*parts, strict=True))
    coverage, at_ends = (inside / held, tied / held) if held else (math.nan, 0.0)
    return Interval(half_width, coverage, width_sum / total if total else math.nan, at_ends)


def invented(
    source: np.ndarray,
    recon: np.ndarray,
    half_width: np.ndarray,
    detail_source: np.ndarray,
    detail_recon: np.ndarray,
) -> np.ndarray:
    """By how much the reconstruction shows detail that is not there.

    Where the reconstruction has more local detail (`local_detail`) than the source and lies outside its own
    stated interval: |source - reconstruction| - half_width. Elsewhere 0, also where detail was merely lost.

    Returns:
        (X, Y, Z) float32, source units.
    """
    found = np.empty(source.shape, dtype=np.float32)
    step = max(1, _SLAB // (source.shape[1] * source.shape[2]))
    for start in range(0, len(source), step):
        part = slice(start, start + step)
        beyond = np.abs(np.subtract(recon[part], source[part], dtype=np.float32))
        beyond -= half_width[part]
        beyond[detail_recon[part] <= detail_source[part]] = 0
        np.maximum(beyond, 0, out=found[part])
    return found


def _cuts(values: np.ndarray, spread: int, count: int) -> np.ndarray:
    sample = values.ravel()[::spread]
    return np.unique(np.quantile(sample, np.linspace(0, 1, count + 1)[1:-1]).astype(np.float32))


def _groups(detail: np.ndarray, recon: np.ndarray, cuts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The group of each voxel; counting the cuts at or below it is quicker than searching for it."""
    found = np.zeros(detail.shape, dtype=np.uint8)
    for cut in cuts[0]:
        found += detail >= cut
    found *= _VALUES
    for cut in cuts[1]:
        found += recon >= cut
    return found


def _widths(groups: np.ndarray, error: np.ndarray, level: float) -> np.ndarray:
    """The half width of each group; of a group that is too small, that of its detail or of all."""
    widths = np.empty(_DETAILS * _VALUES, dtype=np.float32)
    order = np.argsort(groups, kind="stable")
    error, ends = error[order], np.searchsorted(groups[order], np.arange(_DETAILS * _VALUES + 1))
    for group in range(len(widths)):
        first = group // _VALUES * _VALUES
        for low, high in ((group, group + 1), (first, first + _VALUES), (0, len(widths))):
            part = error[ends[low] : ends[high]]
            if len(part) >= _FEWEST or (low, high) == (0, len(widths)):
                widths[group] = conformal_quantile(part, level)
                break
    return widths


def conformal_quantile(errors: np.ndarray, level: float) -> float:
    """The conformal quantile: the ceil((n + 1) level)-th smallest; infinite when there are too few."""
    rank = math.ceil((len(errors) + 1) * level)
    return float(np.partition(errors, rank - 1)[rank - 1]) if rank <= len(errors) else math.inf
