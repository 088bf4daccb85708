"""From the positions of slices to one affine, or a refusal that names the place and the millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrecon.io.scan import ScanError

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_REMEDY = "find the missing or misplaced slices and export the series again"


@dataclass(frozen=True)
class Stack:
    """Slices on a regular grid.

    Attributes:
        order: indices of the slices along their normal, lowest position first.
        affine: (4, 4) float64, (column, row, slice) -> RAS mm.
        tilt: in-plane shift from slice to slice along rows and columns, in mm; None for a straight grid.
        notes: what must be said.
    """

    order: tuple[int, ...]
    affine: np.ndarray
    tilt: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def check_orientation(orientation: Sequence[float] | None, path: object) -> np.ndarray:
    """Image Orientation (Patient) as (2, 3) unit vectors, cleaned of rounding.

    Raises:
        ScanError: missing, not of length one, not at right angles.
    """
    if orientation is None or len(orientation) != 6:
        raise ScanError(
            "Image Orientation (Patient) is missing or incomplete: the slices cannot be placed",
            path=path,  # type: ignore[arg-type]
            remedy="export the series with its geometry",
        )
    pair = np.asarray(orientation, float).reshape(2, 3)
    lengths = np.linalg.norm(pair, axis=1)
    if np.any(np.abs(lengths - 1) > 1e-2) or abs(pair[0] @ pair[1]) > 1e-2:
        raise ScanError(
            "Image Orientation (Patient) is no pair of unit vectors at right angles: "
            + "\\".join(f"{v:g}" for v in orientation),
            path=path,  # type: ignore[arg-type]
            remedy="export the series with its geometry",
        )
    row = pair[0] / lengths[0]
    column = pair[1] - (pair[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def check_spacing(spacing: Sequence[float] | None, path: object) -> tuple[float, float]:
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
        path=path,  # type: ignore[arg-type]
        remedy="export the series with its geometry",
    )


def stack(
    positions: np.ndarray,
    directions: np.ndarray,
    spacing: tuple[float, float],
    thickness: float | None,
    names: Sequence[str],
    path: object,
) -> Stack:
    """Sort slices along their normal and check that they are evenly spaced.

    Args:
        positions: (N, 3) Image Position (Patient) in LPS mm, no two the same.
        directions: (2, 3) row and column direction cosines.
        spacing: distance between rows and between columns, in mm.
        thickness: stands in for the slice distance of a single slice.
        names: (N,) how a user finds each slice.
        path: the scan, for the message.

    Raises:
        ScanError: gaps, uneven distances, uneven shifts.
    """
    normal = np.cross(directions[0], directions[1])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    points = positions[order]
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * spacing[1]
    affine[:3, 1] = directions[1] * spacing[0]
    affine[:3, 3] = points[0]
    if len(points) == 1:
        affine[:3, 2] = normal * _thickness(thickness, path)
        return Stack(tuple(int(i) for i in order), RAS_FROM_LPS @ affine)
    off = _check_even(along[order], [names[i] for i in order], path)
    affine[:3, 2] = normal * (float(along[order[-1]] - along[order[0]]) / (len(points) - 1))
    tilt = _shear((points - points[0]) @ directions.T, min(spacing), path)
    notes = (f"slice positions are up to {off:.3f} mm off an even grid (rounding)",) if off > 0.005 else ()
    return Stack(tuple(int(i) for i in order), RAS_FROM_LPS @ affine, tilt, notes)


def _shear(drift: np.ndarray, pixel: float, path: object) -> tuple[float, float] | None:
    """The in-plane shift per slice, from each slice's shift (N, 2) in mm; None where it is rounding only.

    Raises:
        ScanError: the slices are shifted, and not along a line.
    """
    if np.abs(drift).max() <= max(0.1, 0.1 * pixel):
        return None
    steps = np.arange(len(drift))[:, None] * (drift[-1] / (len(drift) - 1))
    if np.abs(drift - steps).max() > max(0.1, 0.1 * pixel):
        raise ScanError(
            f"the slices are shifted against each other by up to {np.abs(drift).max():.2f} mm, unevenly",
            path=path,  # type: ignore[arg-type]
            remedy=SPACING_REMEDY,
        )
    shift = drift[-1] / (len(drift) - 1)
    return float(shift[0]), float(shift[1])


def _check_even(along: np.ndarray, names: Sequence[str], path: object) -> float:
    """How far the slices are off the best even grid, in mm.

    Positions are rounded in real headers (a tenth of a millimetre has been seen), so each may be off its
    place by 1 % of the distance, or by 0.1 mm where that is less than 2 %.

    Raises:
        ScanError: further off.
    """
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    index = np.arange(len(along))
    slope, start = np.polyfit(index, along - along[0], 1)
    off = float(np.abs(along - along[0] - slope * index - start).max())
    tolerance = max(0.01 * usual, min(0.1, 0.02 * usual))
    if off <= tolerance and np.abs(gaps - usual).max() <= 3 * tolerance:
        return off
    wrong = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    first = int(wrong[0]) if len(wrong) else 0
    more = f" (and at {len(wrong) - 1} more places)" if len(wrong) > 1 else ""
    missing = round(float(gaps[first]) / usual) - 1
    whole = abs(float(gaps[first]) - (missing + 1) * usual) <= 2 * tolerance
    kind = f"{missing} slice(s) missing" if missing > 0 and whole else "uneven slice spacing"
    raise ScanError(
        f"{kind} after slice {first + 1} of {len(names)} ({names[first]}): {gaps[first]:.3f} mm to "
        f"{names[first + 1]} instead of {usual:.3f} mm{more}",
        path=path,  # type: ignore[arg-type]
        remedy=SPACING_REMEDY,
    )


def _thickness(thickness: float | None, path: object) -> float:
    if thickness is None or not 1e-3 <= thickness <= 1000:
        raise ScanError(
            "a single slice without a valid Slice Thickness: the voxels' depth is unknown",
            path=path,  # type: ignore[arg-type]
            remedy="give the whole series",
        )
    return float(thickness)


def check_affine(affine: np.ndarray, name: str, path: object) -> None:
    """Refuse an affine that is not finite, or whose axes fall together.

    Raises:
        ScanError: with the form's name.
    """
    if not np.all(np.isfinite(affine)) or np.abs(affine).max() > 1e7:
        raise ScanError(f"the {name} holds NaN, Inf or absurd values", path=path, remedy=CONVERT)  # type: ignore[arg-type]
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(sizes < 1e-9) or abs(np.linalg.det(affine[:3, :3] / np.maximum(sizes, 1e-12))) < 1e-3:
        raise ScanError(f"the {name} is singular: axes fall together", path=path, remedy=CONVERT)  # type: ignore[arg-type]


def straighten(
    affine: np.ndarray, shape: Sequence[int], name: str, path: object
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
            path=path,  # type: ignore[arg-type]
            remedy="resample it onto a straight grid first (nibabel.processing.resample_to_output)",
        )
    return straight, (f"the {name} is slightly sheared: made straight, corners move by {off:.2g} mm",)


CONVERT = "convert the original images again"
_SQUARE = 1e-5  # cosine; ITK takes up to 5e-5
