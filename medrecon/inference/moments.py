"""Mean and standard deviation of volumes that come one after the other."""

from __future__ import annotations

import numpy as np

_SLAB = 1 << 22  # voxels taken in at once


class RunningMoments:
    """Running sums of volumes of one shape (Welford 1962): two volumes are held, however many come."""

    mean: np.ndarray
    """(X, Y, Z), float32."""

    def __init__(self) -> None:
        self.count = 0
        self._squares: np.ndarray

    def add(self, volume: np.ndarray) -> None:
        """Take in one more volume, (X, Y, Z)."""
        if not self.count:
            self.mean = np.zeros(volume.shape, np.float32)
            self._squares = np.zeros(volume.shape, np.float32)
        self.count += 1
        step = max(1, _SLAB // max(1, volume[0].size))
        for start in range(0, len(volume), step):
            part = slice(start, start + step)
            off = np.subtract(volume[part], self.mean[part], dtype=np.float32)
            self.mean[part] += off / self.count
            self._squares[part] += off * np.subtract(volume[part], self.mean[part], dtype=np.float32)

    def deviation(self) -> np.ndarray:
        """Standard deviation (n - 1) at each voxel, float32; of two or more volumes."""
        return np.sqrt(self._squares / np.float32(self.count - 1))
