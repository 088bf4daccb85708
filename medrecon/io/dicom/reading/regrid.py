"""How the voxels of a DICOM scan are read; a sheared or uneven stack resampled onto a straight, even grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medrecon.io.dicom.reading.frames import Frame
from medrecon.io.geometry import Stack


@dataclass(frozen=True)
class Resampling:
    """From slices as they lie to a straight, even grid.

    Attributes:
        shifts: of each slice that is there along rows and columns, in pixels of the new grid.
        places: of each slice of the new grid, among those that are there.
    """

    shifts: tuple[tuple[float, float], ...]
    places: tuple[float, ...]


@dataclass(frozen=True)
class DicomRecipe:
    """How the voxels of a DICOM scan are read.

    Attributes:
        frames: one per slice that is there, in order.
        resampling: onto the scan's grid; None where the slices lie on it.
        frame_of_reference: one UID made for slices that each have one of their own, else "".
        placed: whether geometry that is missing was made up.
    """

    frames: tuple[Frame, ...]
    resampling: Resampling | None = None
    frame_of_reference: str = ""
    placed: bool = False

    def __iter__(self) -> Iterator[Frame]:
        """The frame of each slice of the scan, in order; the nearest one where they are resampled."""
        if self.resampling is None:
            return iter(self.frames)
        return iter([self.frames[round(place)] for place in self.resampling.places])


def straight_grid(
    lined: Stack, shape: tuple[int, int, int]
) -> tuple[Resampling, tuple[int, int, int], np.ndarray]:
    """The straight, even grid that holds all of a sheared or uneven stack.

    Returns:
        How to come to it; its shape; its affine (RAS mm).
    """
    drift = np.zeros((shape[2], 2)) if lined.drift is None else lined.drift
    shifts = drift / np.linalg.norm(lined.affine[:3, :2], axis=0)
    first = np.floor(shifts.min(axis=0) + 1e-6).astype(int)
    last = np.ceil(shifts.max(axis=0) - 1e-6).astype(int)
    places = np.arange(shape[2], dtype=float) if lined.places is None else lined.places
    new = (int(shape[0] + last[0] - first[0]), int(shape[1] + last[1] - first[1]), len(places))
    affine = lined.affine.copy()
    affine[:3, 3] += affine[:3, :2] @ first
    moved = tuple((float(x), float(y)) for x, y in shifts - first)
    return Resampling(moved, tuple(map(float, places))), new, affine


def resample(volume: np.ndarray, how: Resampling, shape: tuple[int, int, int]) -> np.ndarray:
    """(X, Y, Z) onto the new grid, linearly; outside is the volume's minimum.

    Whole numbers stay whole numbers (rounded).
    """
    low = volume.min()
    out = np.full(shape, low, volume.dtype)
    planes: dict[int, np.ndarray] = {}
    for k, place in enumerate(how.places):
        below = int(place)
        part = place - below
        wanted = (below, below + 1) if part else (below,)
        planes = {i: planes[i] if i in planes else _straight(volume, how, i, shape, low) for i in wanted}
        plane = planes[below] * (1 - part) + planes[below + 1] * part if part else planes[below]
        out[:, :, k] = np.rint(plane) if volume.dtype.kind in "iu" else plane
    return out


def _straight(
    volume: np.ndarray, how: Resampling, index: int, shape: tuple[int, int, int], low: float
) -> np.ndarray:
    """One slice shifted within its plane."""
    from scipy.ndimage import shift

    plane = np.full(shape[:2], low, np.float32 if volume.dtype.itemsize <= 2 else np.float64)
    plane[: volume.shape[0], : volume.shape[1]] = volume[:, :, index]
    if not any(how.shifts[index]):
        return plane
    return shift(plane, how.shifts[index], order=1, mode="constant", cval=float(low), prefilter=False)
