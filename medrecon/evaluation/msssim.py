"""Structural similarity over several scales, of volumes too large to be filtered whole."""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import TracebackType

import numpy as np

from medrecon.evaluation.relative_error import check_pair
from medrecon.evaluation.similarity import exponents, halvings
from medrecon.evaluation.ssim import SSIM

_SLAB = 1 << 21  # voxels taken in at once


def ms_ssim(
    source: np.ndarray, recon: np.ndarray, *, data_range: float | tuple[float, float], clip: bool = False
) -> float:
    """Multi-scale structural similarity (MS-SSIM): 1 for equal volumes, at least 0.

    Wang, Simoncelli & Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003,
    in three dimensions: windows, constants and averages as in `SSIM`; from each scale to the next, means of
    two voxels along each axis (an odd last one is left out). The mean contrast-structure term of each scale
    and, at the coarsest, the mean of the whole index, none below 0, each to the power of its scale's weight,
    are multiplied. That is `monai.metrics.MultiScaleSSIMMetric(3)` where each axis has 176 voxels or more;
    smaller and thinner volumes get fewer halvings (see `similarity.halvings`), so their values compare
    only with those of volumes of like size. With a single scale it is the SSIM.

    Both volumes are gone through in slabs; memory beyond them is a few hundred MiB, whatever their size.

    Args:
        source: (X, Y, Z), any dtype; (X, Y) is taken as one slice.
        recon: the same shape and units.
        data_range: (low, high), the values that count as 0 and 1, or the width alone, when low is 0. The
            index depends on where zero lies: for HU give both ends.
        clip: clip both to (low, high) first, as `fidelity` does for HU.

    Raises:
        UsageError: the shapes differ, or are not those of an image.
        ValueError: the range is empty.
    """
    source, recon = np.asarray(source), np.asarray(recon)
    check_pair(source, recon)
    low, high = data_range if isinstance(data_range, tuple) else (0.0, float(data_range))
    if not low < high:
        raise ValueError(f"data_range {low, high}: the low end must be below the high end")
    if source.ndim == 2:
        source, recon = source[..., None], recon[..., None]
    # slabs along the axis that memory stores slowest are read without jumping
    order = sorted(range(3), key=lambda axis: -abs(source.strides[axis]))
    pair = source.transpose(order), recon.transpose(order)
    with ExitStack() as stack:
        scales = _Scales(pair[0].shape, stack)
        planes = max(1, _SLAB // (pair[0].shape[1] * pair[0].shape[2]))
        for start in range(0, len(pair[0]), planes):
            slabs = [_scaled(v[start : start + planes], low, high, clip) for v in pair]
            scales.add(slabs[0], slabs[1])
        return scales.value


class MultiScaleSSIM:
    """SSIM and MS-SSIM of the same two volumes in one go: stands in for `SSIM` where that is fed.

    Use it as a context manager, fed like `SSIM`; `mean` is the SSIM, `value` the MS-SSIM.

    Args:
        shape: of the whole volume.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._stack = ExitStack()
        self._scales = _Scales(shape, self._stack)

    def __enter__(self) -> MultiScaleSSIM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take in the next planes of both volumes, float32 (planes, *shape[1:]), scaled to [0, 1]."""
        self._scales.add(x, y)

    @property
    def mean(self) -> float:
        """The SSIM."""
        return self._scales.finest.mean

    @property
    def value(self) -> float:
        """The MS-SSIM."""
        return self._scales.value


class _Scales:
    """A cascade: each scale takes in planes, and hands their means of two on to the next."""

    def __init__(self, shape: tuple[int, ...], stack: ExitStack) -> None:
        self._steps = halvings(shape)
        self._ssim: list[SSIM] = []
        for step in [*self._steps, None]:
            self._ssim.append(stack.enter_context(SSIM(shape, contrast=True)))  # type: ignore[arg-type]
            shape = tuple(n // 2 if half else n for n, half in zip(shape, step or shape, strict=True))
        self._odd: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, x: np.ndarray, y: np.ndarray, scale: int = 0) -> None:
        """Take in the next planes of both volumes, float32, at one scale."""
        self._ssim[scale].add(x, y)
        if scale == len(self._steps):
            return
        along, *within = self._steps[scale]
        if scale in self._odd:
            x, y = (np.concatenate(pair) for pair in zip(self._odd.pop(scale), (x, y), strict=True))
        if along and len(x) % 2:
            self._odd[scale] = x[-1:].copy(), y[-1:].copy()
        if not along or len(x) > 1:
            x, y = (_means(v, (along, *within)) for v in (x, y))
            self.add(x, y, scale + 1)

    @property
    def finest(self) -> SSIM:
        """The scale of the volumes themselves."""
        return self._ssim[0]

    @property
    def value(self) -> float:
        """The product over scales of what was taken in."""
        parts = [*(scale.contrast for scale in self._ssim[:-1]), self._ssim[-1].mean]
        weights = exponents(len(parts))
        return math.prod(max(0.0, part) ** weight for part, weight in zip(parts, weights, strict=True))


def _means(values: np.ndarray, halved: tuple[bool, ...]) -> np.ndarray:
    """Means of two voxels along the axes that are halved."""
    for axis, half in enumerate(halved):
        if half:
            whole = values.shape[axis] // 2 * 2
            before = (slice(None),) * axis
            values = values[(*before, slice(0, whole, 2))] + values[(*before, slice(1, whole, 2))]
            values *= np.float32(0.5)
    return values


def _scaled(values: np.ndarray, low: float, high: float, clip: bool) -> np.ndarray:
    """A float32 copy with (low, high) as (0, 1)."""
    wide = np.promote_types(values.dtype, np.float32) != np.float32
    dtype: type[np.floating] = np.float64 if wide else np.float32
    scaled: np.ndarray = np.array(values, dtype=dtype, order="C")
    if clip:
        np.clip(scaled, low, high, out=scaled)
    scaled -= low
    scaled /= high - low
    return scaled.astype(np.float32, copy=False)
