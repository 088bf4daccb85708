"""From the positions of slices to one affine, or a refusal that names the place and the millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.distances import RESAMPLE, SPACING_REMEDY, even_grid, uneven, unevenness
from medrecon.io.scan import ScanError, or_accept

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Slices on a regular grid.

    Attributes:
        order: indices of the slices along their normal, lowest position first.
        affine: (4, 4) float64, (column, row, slice) -> RAS mm.
        drift: (N, 2) in-plane shift of each slice along rows and columns, in mm, of a sheared stack; None for
            a straight one.
        places: (M,) place of each slice of an even grid among the slices that are there, where these are at
            uneven distances; None for even ones.
        notes: what must be said.
    """

    order: tuple[int, ...]
    affine: np.ndarray
    drift: np.ndarray | None = None
    places: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def check_orientation(orientation: Sequence[float] | None, path: Path) -> np.ndarray:
    """Image Orientation (Patient) as (2, 3) unit vectors, cleaned of rounding.

    Raises:
        ScanError: missing, not of length one, not at right angles.
    """
    if orientation is None or len(orientation) != 6:
        raise ScanError(
            "Image Orientation (Patient) is missing or incomplete: the slices cannot be placed",
            path=path,
            remedy="export the series with its geometry" + or_accept("no-geometry"),
        )
    pair = np.asarray(orientation, float).reshape(2, 3)
    lengths = np.linalg.norm(pair, axis=1)
    if np.any(np.abs(lengths - 1) > 1e-2) or abs(pair[0] @ pair[1]) > 1e-2:
        raise ScanError(
            "Image Orientation (Patient) is no pair of unit vectors at right angles: "
            + "\\".join(f"{v:g}" for v in orientation),
            path=path,
            remedy="export the series with its geometry" + or_accept("no-geometry"),
        )
    row = pair[0] / lengths[0]
    column = pair[1] - (pair[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def check_spacing(spacing: Sequence[float] | None, path: Path) -> tuple[float, float]:
    """Pixel Spacing (between rows, between columns) in mm.

    Raises:
        ScanError: missing, zero, negative or absurd.
    """
    if spacing is None or len(spacing) != 2:
        text = "is missing or incomplete"
    elif min(spacing) <= 0:
        text = f"is {spacing[0]:g} x {spacing[1]:g} mm"
    elif min(spacing) < 1e-3 or max(spacing) > 100:
        text = f"is {spacing[0]:g} x {spacing[1]:g} mm, which no scanner makes"
    else:
        return float(spacing[0]), float(spacing[1])
    raise ScanError(
        f"Pixel Spacing {text}: the voxels' size is unknown",
        path=path,
        remedy="export the series with its geometry" + or_accept("no-geometry"),
    )


def stack(
    positions: np.ndarray,
    directions: np.ndarray,
    spacing: tuple[float, float],
    thickness: float | None,
    names: Sequence[str],
    path: Path,
    *,
    digits: tuple[float, float] = (0.0, 0.0),
    resample: bool = False,
) -> Stack:
    """Sort slices along their normal and check that they are evenly spaced.

    Args:
        positions: (N, 3) Image Position (Patient) in LPS mm, no two the same.
        directions: (2, 3) row and column direction cosines.
        spacing: distance between rows and between columns, in mm.
        thickness: stands in for the slice distance of a single slice.
        names: (N,) how a user finds each slice.
        path: the scan, for the message.
        digits: half of the last digit that positions and cosines are printed with.
        resample: make an even grid of uneven distances, and take a sheared stack.

    Raises:
        ScanError: gaps, uneven distances, a shear, uneven shifts.
    """
    normal = np.cross(directions[0], directions[1])
    order = np.argsort(positions @ normal, kind="stable")
    points = positions[order]
    indices = tuple(int(i) for i in order)
    affine = np.eye(4)
    affine[:3, 3] = points[0]
    if len(points) == 1:
        affine[:3, :3] = _axes(directions, spacing, normal * _thickness(thickness, path))
        return Stack(indices, RAS_FROM_LPS @ affine)
    drift, line, notes = _shear(points, directions, spacing, digits, path, resample)
    if drift is not None and not resample:
        step, total = np.linalg.norm(np.diff(drift, axis=0), axis=1).max(), np.linalg.norm(drift[-1])
        raise ScanError(
            f"sheared grid (gantry tilt): {step:.3f} mm in plane from slice to slice, {total:.2f} mm in all",
            path=path,
            remedy=RESAMPLE,
        )
    directions = _turned(directions, normal, line)
    along = (points - points[0]) @ line
    off = unevenness(along, digits[0] * float(np.abs(line).sum()))
    places = None
    if off is None:
        if not resample:
            raise uneven(along, [names[i] for i in order], path)
        places = even_grid(along, path)
        gaps = np.diff(along)
        notes += (
            f"slice distances of {gaps.min():.3f} to {gaps.max():.3f} mm: {len(points)} slices resampled "
            f"linearly onto {len(places)} that are {along[-1] / (len(places) - 1):.3f} mm apart",
        )
    elif off > 0.005:
        notes += (f"slice positions are up to {off:.3f} mm off an even grid (rounding)",)
    count = len(points) if places is None else len(places)
    affine[:3, :3] = _axes(directions, spacing, line * (float(along[-1]) / (count - 1)))
    return Stack(indices, RAS_FROM_LPS @ affine, drift, places, notes)


def _axes(directions: np.ndarray, spacing: tuple[float, float], step: np.ndarray) -> np.ndarray:
    return np.stack([directions[0] * spacing[1], directions[1] * spacing[0], step], axis=1)


def _shear(
    points: np.ndarray,
    directions: np.ndarray,
    spacing: tuple[float, float],
    digits: tuple[float, float],
    path: Path,
    resample: bool,
) -> tuple[np.ndarray | None, np.ndarray, tuple[str, ...]]:
    """How sorted slices are shifted in plane.

    Returns:
        The shift of each slice along rows and columns in mm (None where it is rounding), the direction across
        the slices (where cosines of few digits explain a shift, their line), and what must be said.

    Raises:
        ScanError: the slices are shifted, and not along a line; unless they are resampled.
    """
    normal = np.cross(directions[0], directions[1])
    along = (points - points[0]) @ normal
    drift = (points - points[0]) @ directions.T
    tolerance = max(0.1, 0.1 * min(spacing), 2 * digits[0])
    worst = float(np.abs(drift).max())
    if worst <= tolerance:
        return None, normal, ()
    straight = along[:, None] * (drift[-1] / along[-1])
    if np.abs(drift - straight).max() > tolerance:
        if resample:
            return drift, normal, ()
        raise ScanError(
            f"the slices are shifted against each other by up to {worst:.2f} mm, unevenly",
            path=path,
            remedy=f"{SPACING_REMEDY}, or {RESAMPLE}",
        )
    if worst <= 1.75 * digits[1] * float(along[-1]) + 2 * digits[0]:
        line = (points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0])
        angle = np.degrees(np.arccos(min(1.0, float(line @ normal))))
        said = f"direction cosines of few digits: turned by {angle:.2g} degrees, onto the line of the slices"
        return None, line, (said,)
    return straight, normal, ()


def _turned(directions: np.ndarray, normal: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Row and column directions turned by the smallest rotation that brings the normal onto the line."""
    axis, cosine = np.cross(normal, line), float(normal @ line)
    if not axis.any():
        return directions
    turned = directions * cosine + np.cross(axis, directions)
    return turned + np.outer(directions @ axis, axis) / (1 + cosine)


def _thickness(thickness: float | None, path: Path) -> float:
    if thickness is None or not 1e-3 <= thickness <= 1000:
        raise ScanError(
            "a single slice without a valid Slice Thickness: the voxels' depth is unknown",
            path=path,
            remedy="give the whole series" + or_accept("no-thickness"),
        )
    return float(thickness)


def check_affine(affine: np.ndarray, name: str, path: Path) -> None:
    """Refuse an affine that is not finite, or whose axes fall together.

    Raises:
        ScanError: with the form's name.
    """
    if not np.all(np.isfinite(affine)) or np.abs(affine).max() > 1e7:
        raise ScanError(f"the {name} holds NaN, Inf or absurd values", path=path, remedy=CONVERT)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(sizes < 1e-9) or abs(np.linalg.det(affine[:3, :3] / np.maximum(sizes, 1e-12))) < 1e-3:
        raise ScanError(f"the {name} is singular: axes fall together", path=path, remedy=CONVERT)


def straighten(
    affine: np.ndarray, shape: Sequence[int], name: str, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The affine with axes at right angles, as DICOM, ITK and a qform need them, and what must be said.

    Axes that are off by no more than rounding stay as they are. Others are turned to the nearest right angles
    about the centre of the scan (orthogonal Procrustes), if that moves no corner by more than a tenth of the
    smallest voxel.

    Args:
        affine: (4, 4), voxel index -> mm, not singular.
        shape: (3,) voxels along each axis.
        name: of the form that holds it.
        path: the scan, for the message.

    Raises:
        ScanError: sheared by more.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    if np.abs(directions.T @ directions - np.eye(3)).max() <= _SQUARE:
        return affine, ()
    left, _, right = np.linalg.svd(directions)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * sizes
    centre = (np.asarray(shape) - 1) / 2
    straight[:3, 3] += (affine - straight)[:3, :3] @ centre
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij")).reshape(3, -1)
    moved = (affine - straight)[:3, :3] @ (corners - centre[:, None])
    off = float(np.linalg.norm(moved, axis=0).max())
    if off > 0.1 * sizes.min():
        raise ScanError(
            f"the {name} is sheared: its corners are {off:.2f} mm off a straight grid, and neither DICOM nor "
            "ITK knows others",
            path=path,
            remedy="resample it onto a straight grid first (nibabel.processing.resample_to_output)",
        )
    return straight, (f"the {name} is slightly sheared: made straight, corners move by {off:.2g} mm",)


CONVERT = "convert the original images again"
_SQUARE = 1e-5  # cosine; ITK takes up to 5e-5
