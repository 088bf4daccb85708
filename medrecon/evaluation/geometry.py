"""Whether two volumes lie on the same grid in the patient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

TOLERANCE_MM = 1e-3


def compare_geometry(
    affine_a: np.ndarray,
    shape_a: Sequence[int],
    affine_b: np.ndarray,
    shape_b: Sequence[int],
    tolerance: float = TOLERANCE_MM,
) -> list[str]:
    """Say how the grids of two volumes differ.

    Args:
        affine_a: (4, 4), voxel index -> RAS mm.
        shape_a: (X, Y, Z) voxels.
        affine_b: the other's.
        shape_b: the other's.
        tolerance: how far, in mm, a corner of the one volume may lie from the other's.

    Returns:
        One line for each thing that differs, in words and numbers; empty where the grids are the same.
    """
    a, b = (np.asarray(affine, dtype=np.float64) for affine in (affine_a, affine_b))
    shape_a, shape_b = tuple(int(n) for n in shape_a), tuple(int(n) for n in shape_b)
    found = []
    if shape_a != shape_b:
        found.append(f"shape {_times(shape_a)} against {_times(shape_b)} voxels")
    broken = [which for which, m in (("first", a), ("second", b)) if not _is_grid(m)]
    if broken:
        return [*found, *(f"the {which} volume's affine is not that of a grid" for which in broken)]
    corners = np.array([*itertools.product(*((0, n - 1) for n in shape_a)), (0, 0, 0)], dtype=np.float64)
    apart = float(np.linalg.norm(corners @ (a - b)[:3, :3].T + (a - b)[:3, 3], axis=1).max())
    if apart <= tolerance:
        return found
    details = []
    spacing_a, spacing_b = (np.linalg.norm(m[:3, :3], axis=0) for m in (a, b))
    if np.abs(spacing_a - spacing_b).max() * max(shape_a) > tolerance:
        details.append(f"voxel spacing {_times(spacing_a)} against {_times(spacing_b)} mm")
    axes_a, axes_b = a[:3, :3] / spacing_a, b[:3, :3] / spacing_b
    if _codes(axes_a) != _codes(axes_b):
        details.append(f"axes run to {_codes(axes_a)} against {_codes(axes_b)}")
    else:
        sine = np.linalg.norm(np.cross(axes_a, axes_b, axis=0), axis=0).max()
        if sine * float(spacing_a.max()) * max(shape_a) > tolerance:
            details.append(f"axes turned by up to {np.degrees(np.arcsin(min(1.0, sine))):.3g} degrees")
    offset = float(np.linalg.norm(a[:3, 3] - b[:3, 3]))
    if offset > tolerance:
        details.append(f"first voxel {offset:.4g} mm away")
    return [*found, *details, f"corners up to {apart:.4g} mm apart"]


def _is_grid(affine: np.ndarray) -> bool:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(spacing.min() > 0 and abs(np.linalg.det(affine[:3, :3] / spacing)) > 1e-6)


def _codes(axes: np.ndarray) -> str:
    """Name the patient direction that each axis runs closest to: RAS is right, anterior, superior."""
    pairs = ("LR", "PA", "IS")
    largest = np.abs(axes).argmax(axis=0)
    return "".join(pairs[row][int(axes[row, column] > 0)] for column, row in enumerate(largest))


def _times(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{v:.6g}" for v in values)
