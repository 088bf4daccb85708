"""Slices of a volume as a radiologist expects to see them, whatever way its axes run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medrecon.intensity_range import intensity_range

Plane = Literal["axial", "coronal", "sagittal"]

# voxel axes that run to the patient's left, posterior and superior: an axial DICOM series, in RAS mm
_LPS = np.diag([-1.0, -1.0, 1.0])

_ACROSS = {"sagittal": 0, "coronal": 1, "axial": 2}
_EDGES: dict[str, tuple[str, str]] = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}


@dataclass(frozen=True)
class View:
    """How to cut the slices of one grid: each result of one source is cut alike.

    Attributes:
        order: the volume's axes that run closest to left, posterior and superior.
        flip: which of them run the other way.
        spacing: mm along left, posterior, superior.
        box: the part that is shown, ((start, stop), ...) along left, posterior, superior.
        at: the voxel whose three planes are shown, along left, posterior, superior.
    """

    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    at: tuple[int, int, int]

    def turned(self, volume: np.ndarray) -> np.ndarray:
        """See a volume (X, Y, Z) with its axes running left, posterior, superior; nothing is copied."""
        turned = np.transpose(volume, self.order)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flip)]

    def cut(self, volume: np.ndarray, plane: Plane) -> np.ndarray:
        """One slice (rows, columns) in radiological convention: patient's right on the left, head up.

        Sagittal slices have the patient's front on the left.
        """
        across = _ACROSS[plane]
        index: list[slice | int] = [slice(start, stop) for start, stop in self.box]
        index[across] = self.at[across]
        rows = self.turned(volume)[tuple(index)].T
        return rows if plane == "axial" else rows[::-1]

    def size(self, plane: Plane) -> tuple[float, float]:
        """Width and height of the slice in mm."""
        extent = [(stop - start) * step for (start, stop), step in zip(self.box, self.spacing, strict=True)]
        width, height = (n for axis, n in enumerate(extent) if axis != _ACROSS[plane])
        return width, height

    @staticmethod
    def edges(plane: Plane) -> tuple[str, str]:
        """Letters of the slice's left and right edge."""
        return _EDGES[plane]


def body_threshold(source: np.ndarray, units: str) -> float:
    """The value above which a voxel is part of the body, not of the air around it."""
    if units == "HU":
        return -500.0
    low, high = intensity_range(source, units)
    return low + 0.08 * (high - low)


def make_view(
    volume: np.ndarray,
    spacing: Sequence[float],
    affine: np.ndarray | None = None,
    at: Sequence[int] | None = None,
    background: float | None = None,
) -> View:
    """Find how to show a volume: upright, cut to what is not background, through its middle.

    Args:
        volume: (X, Y, Z).
        spacing: mm along X, Y, Z.
        affine: (4, 4) voxel index -> RAS mm; without it the axes are taken to run to the patient's left,
            posterior and superior, as in an axial DICOM series.
        at: the voxel (X, Y, Z) whose planes are shown; the middle of what is above `background` otherwise.
        background: values up to this are not part of the body; nothing is cut away where not given.
    """
    axes = _LPS if affine is None else np.asarray(affine, dtype=np.float64)[:3, :3]
    order, flip = _closest(axes / np.linalg.norm(axes, axis=0))
    turn = View(order, flip, (1.0, 1.0, 1.0), ((0, 0),) * 3, (0, 0, 0)).turned
    shape = turn(volume).shape
    box = _box(turn(volume), background)
    if at is None:
        centre = tuple((start + stop - 1) // 2 for start, stop in box)
    else:
        placed = [int(at[axis]) for axis in order]
        centre = tuple(n - 1 - i if f else i for i, n, f in zip(placed, shape, flip, strict=True))
    steps = tuple(float(spacing[axis]) for axis in order)
    return View(order, flip, steps, box, centre)  # type: ignore[arg-type]


def _closest(axes: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Match the columns of `axes` (directions in RAS) with left, posterior, superior."""
    towards = np.array([[-1.0], [-1.0], [1.0]]) * axes  # rows: left, posterior, superior
    left = np.abs(towards).copy()
    order, flip = [0, 0, 0], [False, False, False]
    for _ in range(3):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        order[row], flip[row] = int(column), bool(towards[row, column] < 0)
        left[row, :] = left[:, column] = -1
    return (order[0], order[1], order[2]), (flip[0], flip[1], flip[2])


def _box(volume: np.ndarray, background: float | None) -> tuple[tuple[int, int], ...]:
    """The part of the volume that holds the body, with a little room around it."""
    if background is None:
        return tuple((0, n) for n in volume.shape)
    body = volume > background
    box = []
    for axis, n in enumerate(volume.shape):
        share = body.mean(axis=tuple(a for a in range(3) if a != axis))
        inside = np.flatnonzero(share > 0.02 * share.max()) if share.max() > 0 else np.arange(n)
        room = max(1, n // 50)
        box.append((max(0, int(inside[0]) - room), min(n, int(inside[-1]) + 1 + room)))
    return tuple(box)
