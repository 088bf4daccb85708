"""Gantry tilt: a sheared stack resampled onto a straight grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medrecon.io.dicom.reading.frames import Frame
from medrecon.io.geometry import Stack


@dataclass(frozen=True)
class DicomRecipe:
    """How the voxels of a DICOM scan are read.

    Attributes:
        frames: one per slice, in order.
        tilt: for a sheared stack, the shift from slice to slice along rows and columns in pixels, and the
            first pixel of the straight grid; None where nothing is resampled.
    """

    frames: tuple[Frame, ...]
    tilt: tuple[float, float, int, int] | None = None

    def __iter__(self) -> Iterator[Frame]:
        """The frames, in order."""
        return iter(self.frames)


def straight_grid(
    lined: Stack, shape: tuple[int, int, int]
) -> tuple[tuple[float, float, int, int], tuple[int, int, int], np.ndarray]:
    """The straight grid that holds all of a sheared stack.

    Returns:
        (shift x, shift y, first x, first y) in pixels; the new shape; the new affine (RAS mm).
    """
    inplane = lined.tilt or (0.0, 0.0)
    sizes = np.linalg.norm(lined.affine[:3, :2], axis=0)
    shift = np.asarray(inplane) / sizes
    total = shift * (shape[2] - 1)
    first = np.floor(np.minimum(0.0, total) + 1e-6).astype(int)
    last = np.ceil(np.maximum(0.0, total) - 1e-6).astype(int)
    new = (int(shape[0] + last[0] - first[0]), int(shape[1] + last[1] - first[1]), shape[2])
    affine = lined.affine.copy()
    affine[:3, 3] += affine[:3, 0] * first[0] + affine[:3, 1] * first[1]
    return (float(shift[0]), float(shift[1]), int(first[0]), int(first[1])), new, affine


def resample(
    volume: np.ndarray, tilt: tuple[float, float, int, int], shape: tuple[int, int, int]
) -> np.ndarray:
    """Shift each slice of (X, Y, Z) within its plane, linearly; outside is the volume's minimum.

    Whole numbers stay whole numbers (rounded).
    """
    from scipy.ndimage import shift as shift_image

    low = volume.min()
    out = np.full(shape, low, volume.dtype)
    for k in range(volume.shape[2]):
        plane = np.full(shape[:2], low, np.float32 if volume.dtype.itemsize <= 2 else np.float64)
        x, y = k * tilt[0] - tilt[2], k * tilt[1] - tilt[3]
        plane[: volume.shape[0], : volume.shape[1]] = volume[:, :, k]
        moved = shift_image(plane, (x, y), order=1, mode="constant", cval=float(low), prefilter=False)
        out[:, :, k] = np.rint(moved) if volume.dtype.kind in "iu" else moved
    return out
