"""Structural similarity of volumes too large to be filtered whole."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np

from medrecon.evaluation.filters import filter_valid
from medrecon.evaluation.similarity import K1, K2, gaussian


class SSIM:
    """Mean structural similarity of two volumes, fed slab after slab along their first axis.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13(4),
    2004: Gaussian window of 11 voxels a side, sigma 1.5 voxels, K1 = 0.01, K2 = 0.03, population covariance,
    averaged over the windows that lie wholly inside the volume; here in three dimensions. That is the
    definition of `monai.metrics.SSIMMetric(3)` and of `skimage.metrics.structural_similarity(...,
    gaussian_weights=True, use_sample_covariance=False)`. Along an axis shorter than the window, the window is
    cut to the longest odd length that fits, so that a single slice gets the 2D index.

    The window counts voxels, not millimetres. Values must come scaled so that the data range is [0, 1]: the
    index depends on where zero lies, and HU have it in the middle.

    Use it as a context manager (it holds threads); `mean` is the result.

    Args:
        shape: of the whole volume.
        contrast: also average the index without its luminance term, as `contrast`.
    """

    def __init__(self, shape: tuple[int, int, int], contrast: bool = False) -> None:
        self.kernels = [gaussian(length) for length in shape]
        self._carry: list[np.ndarray] = []
        self._total, self._count = 0.0, 0
        self._contrast: float | None = 0.0 if contrast else None
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))

    def __enter__(self) -> SSIM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take in the next planes of both volumes, float32 (planes, *shape[1:])."""
        filtered = list(self._pool.map(self._in_plane, (x, y, x * x + y * y, x * y)))
        if self._carry:
            filtered = [np.concatenate(pair) for pair in zip(self._carry, filtered, strict=True)]
        keep = len(self.kernels[0]) - 1
        self._carry = [f[len(f) - keep :].copy() for f in filtered] if keep else []
        if len(filtered[0]) <= keep:
            self._carry = filtered
            return
        mean_x, mean_y, square, product = self._pool.map(self._across_planes, filtered)
        luminance = mean_x * mean_y
        means = mean_x**2
        means += mean_y**2
        product -= luminance
        square -= means
        upper = (2 * luminance + K1**2) * (2 * product + K2**2)
        means += K1**2
        square += K2**2
        if self._contrast is not None:
            product *= 2
            product += K2**2
            product /= square
            self._contrast += float(product.sum(dtype=np.float64))
        means *= square
        upper /= means
        self._total += float(upper.sum(dtype=np.float64))
        self._count += upper.size

    @property
    def mean(self) -> float:
        """The index averaged over all windows taken in."""
        return self._total / self._count if self._count else float("nan")

    @property
    def contrast(self) -> float:
        """The contrast and structure terms alone, averaged alike; NaN unless they were asked for."""
        if self._contrast is None or not self._count:
            return float("nan")
        return self._contrast / self._count

    def _in_plane(self, values: np.ndarray) -> np.ndarray:
        return filter_valid(filter_valid(values, self.kernels[1], 1), self.kernels[2], 2)

    def _across_planes(self, values: np.ndarray) -> np.ndarray:
        return filter_valid(values, self.kernels[0], 0)
