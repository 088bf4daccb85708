"""Is this finding still there? Contrast to its surroundings, edge and size of a part that is marked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.stats import t as student

from medrecon.evaluation.marked import Box, Marked
from medrecon.evaluation.scores import Finding, FindingKept

CONFIDENCE = 0.95
SHELL = 5.0
"""mm: how far the surroundings reach beyond the gap."""

_DEGREES = 10  # of freedom of t: the autocovariance is itself estimated, from little
_LEAST = 20  # voxels of the surroundings
_SEEN = 0.1  # of the source's contrast, below which there is no size or edge to measure


class FindingMeter:
    """One finding of one scan, ready for any number of reconstructions.

    The surroundings are a shell: from one voxel (the coarser one of the plane's two, at least 1 mm) to 5 mm
    more outside of the finding. Contrast is the mean inside minus the mean of the shell.

    Its interval takes the error that is left (reconstruction minus the kept share of the source) for a
    stationary field: the variance of a weighted sum of correlated values is the sum over all lags of their
    autocovariance times that of the weights (Priestley 1981, section 5.3). The autocovariance is that of the
    error inside and in the shell, averaged over directions, up to its first zero. Only a box around the
    finding is looked at.

    Args:
        marked: the finding.
        source: (X, Y, Z) in source units.
        affine: (4, 4), voxel index -> RAS mm.
        body: (X, Y, Z) bool: the shell stays inside it where the finding does; None for no limit.
    """

    def __init__(
        self, marked: Marked, source: np.ndarray, affine: np.ndarray, body: np.ndarray | None = None
    ) -> None:
        self.marked = marked
        affine = np.asarray(affine, dtype=np.float64)
        self.spacing = np.linalg.norm(affine[:3, :3], axis=0)
        self._gap = max(1.0, float(np.sort(self.spacing)[1]))
        self.box, inside = _widened(marked, source.shape, self.spacing, self._gap + SHELL)
        outward = ndimage.distance_transform_edt(~inside, sampling=self.spacing)
        inward = ndimage.distance_transform_edt(inside, sampling=self.spacing)
        half = 0.5 * float(np.sort(self.spacing)[0])
        self._distance = np.where(inside, half - inward, outward - half)
        shell = (outward > self._gap) & (outward <= self._gap + SHELL)
        if body is not None and body[self.box][inside].all():
            shell &= body[self.box]
        self._inside, self._shell = inside, shell
        centre = np.argwhere(inside).mean(axis=0) + [s.start for s in self.box]
        self._at = tuple(float(v) for v in (affine @ [*centre, 1.0])[:3])
        self._part = source[self.box].astype(np.float64)
        self._contrast = self._difference(self._part)
        self._size = self._diameter(self._part)
        self._edge = self._width(self._part)

    @property
    def source(self) -> Finding:
        """What the source shows of it."""
        return Finding(
            name=self.marked.name,
            voxels=int(self._inside.sum()),
            at=(self._at[0], self._at[1], self._at[2]),
            contrast=self._contrast,
            diameter=self._size,
            edge=self._edge,
        )

    def of(self, recon: np.ndarray) -> FindingKept:
        """What a reconstruction keeps of it; figures that cannot be told are None."""
        after = recon[self.box].astype(np.float64)
        contrast = self._difference(after)
        if not self._contrast or contrast is None:
            return FindingKept(contrast, None, None, None, None, None)
        kept = contrast / self._contrast
        reach = self._reach(after - kept * self._part) / abs(self._contrast)
        low, high = kept - reach, kept + reach
        visible = kept > _SEEN
        return FindingKept(
            contrast=contrast,
            kept=kept,
            low=low,
            high=high,
            edge=self._width(after) if visible else None,
            diameter=self._diameter(after) if visible else None,
        )

    def _levels(self, part: np.ndarray) -> tuple[float, float] | None:
        """Means inside and in the shell; None without enough of a shell."""
        if self._shell.sum() < _LEAST:
            return None
        return float(part[self._inside].mean()), float(part[self._shell].mean())

    def _difference(self, part: np.ndarray) -> float | None:
        found = self._levels(part)
        return None if found is None else found[0] - found[1]

    def _reach(self, error: np.ndarray) -> float:
        """Half width of the interval of a contrast with this error, source units."""
        used = self._inside | self._shell
        left = np.where(used, error, 0.0)
        for where in (self._inside, self._shell):
            left[where] -= left[where].mean()
        weights = self._inside / self._inside.sum() - self._shell / self._shell.sum()
        size = [next_fast_len(2 * n, real=True) for n in used.shape]
        products, pairs, weighted = (_autocorrelation(v, size) for v in (left, used.astype(float), weights))
        steps = zip(np.ogrid[tuple(slice(n) for n in size)], size, self.spacing, strict=True)
        lags = np.sqrt(sum((np.minimum(k, n - k) * mm) ** 2 for k, n, mm in steps))
        bins = np.rint(lags / float(self.spacing.min())).astype(int).ravel()
        known = (pairs > 0.5).ravel()
        sums = np.bincount(bins[known], weights=products.ravel()[known])
        covariance = sums / np.maximum(1.0, np.bincount(bins[known], weights=pairs.ravel()[known]))
        gone = np.flatnonzero(covariance <= 0)
        end = int(gone[0]) if len(gone) else len(covariance)
        variance = float(covariance[:end] @ np.bincount(bins, weights=weighted.ravel())[:end])
        return float(student.ppf(0.5 + CONFIDENCE / 2, _DEGREES)) * math.sqrt(max(0.0, variance))

    def _diameter(self, part: np.ndarray) -> float | None:
        """mm of a ball as large as what lies beyond half of the contrast and touches the finding."""
        found = self._levels(part)
        if found is None:
            return None
        inside, outside = found
        beyond = (part > (inside + outside) / 2) == (inside > outside)
        near = beyond & (self._inside | (self._distance <= self._gap + SHELL))
        labels, _ = ndimage.label(near)
        touched = np.unique(labels[self._inside & near])
        size = np.isin(labels, touched[touched > 0]).sum() * float(np.prod(self.spacing))
        return 2 * (3 * size / (4 * math.pi)) ** (1 / 3) if size else None

    def _width(self, part: np.ndarray) -> float | None:
        """mm over which its edge would rise at the steepest slope of its mean profile across the edge.

        The profile is the mean by distance from the finding's border; it rises from the mean of its deepest
        third to that of its outermost third.
        """
        step = float(np.sort(self.spacing)[1])
        near = self._inside | self._shell | (np.abs(self._distance) <= self._gap)
        apart = self._distance[near]
        bins = np.floor((apart - apart.min()) / step).astype(int)
        counts = np.bincount(bins)
        full = counts > 0
        profile = np.bincount(bins, weights=part[near])[full] / counts[full]
        places = np.bincount(bins, weights=apart)[full] / counts[full]
        deep = max(1, int((places < 0).sum()) // 3)
        far = max(1, int((places > 0).sum()) // 3)
        if len(profile) < deep + far + 1:
            return None
        rise = float(profile[-far:].mean() - profile[:deep].mean())
        slopes = np.diff(profile) / np.diff(places) * np.sign(rise)
        steepest = float(slopes.max())
        return abs(rise) / steepest if steepest > 0 else None


def _autocorrelation(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Sums of products at all lags, wrapped round at `size`, which leaves room for each lag."""
    return np.asarray(irfftn(np.square(np.abs(rfftn(values, size))), size))


def _widened(
    marked: Marked, shape: Sequence[int], spacing: np.ndarray, reach: float
) -> tuple[Box, np.ndarray]:
    """The finding's box with room for its surroundings, and the finding in it."""
    room = [math.ceil(reach / step) + 1 for step in spacing]
    each = zip(marked.box, room, shape, strict=True)
    box = tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in each)
    inside = np.zeros([s.stop - s.start for s in box], dtype=bool)
    part = tuple(slice(m.start - s.start, m.stop - s.start) for m, s in zip(marked.box, box, strict=True))
    inside[part] = marked.inside
    return box, inside  # type: ignore[return-value]
