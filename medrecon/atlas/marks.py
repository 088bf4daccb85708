"""What is looked at for itself: masks and points as a user names them, on the grid of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.errors import UsageError
from medrecon.evaluation.geometry import compare_geometry
from medrecon.evaluation.marked import Marked, from_labels, sphere
from medrecon.io import find_one, read_scan
from medrecon.io.scan import Scan, ScanError
from medrecon.io.segments import label_names, segment_names

RADIUS = 5.0
"""mm around a point."""

_APART = 1e-3  # mm that grids may lie apart


@dataclass(frozen=True)
class Marks:
    """What a user wants to be looked at.

    Attributes:
        rois: masks, each "PATH" or "NAME=PATH"; a path may be a folder of masks named like the scans.
        points: each "R,A,S" or "NAME=R,A,S", mm to the patient's right, front and head.
        names: a JSON file with the names of labels.
        radius: mm around each point.
    """

    rois: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    names: Path | None = None
    radius: float = RADIUS

    def on(self, scan: Scan) -> tuple[tuple[Marked, ...], tuple[Marked, ...]]:
        """Parts of masks, and spheres around points, on the grid of a scan.

        Raises:
            ScanError: a mask or the names cannot be read, or do not fit.
            UsageError: a point is none, or lies outside.
        """
        masks: list[Marked] = []
        for roi in self.rois:
            masks += _mask(scan, roi, self.names)
        spheres = [_point(scan, text, n, self.radius) for n, text in enumerate(self.points, start=1)]
        _refuse_doubles([each.name for each in (*masks, *spheres)])
        return tuple(masks), tuple(spheres)


def _mask(scan: Scan, roi: str, names: Path | None) -> tuple[Marked, ...]:
    name, sign, rest = roi.partition("=")
    if not sign or Path(roi).exists():
        name, rest = "", roi
    path = Path(rest)
    path = path / scan.path.name if path.is_dir() and (path / scan.path.name).exists() else path
    known = label_names(names) if names else {}
    layers = segment_names(path) if path.name.lower().endswith((".nrrd", ".nhdr")) and path.is_file() else {}
    found: list[Marked] = []
    for layer in sorted(layers) or [0]:
        file = find_one(path, volume=layer if len(layers) > 1 else None)
        labels = onto(scan, read_scan(file), file)
        called = layers.get(layer, {}) | known
        found += from_labels(labels, scan.shape, called, only=name or "roi")
    if name and len(found) == 1:
        found = [Marked(name, found[0].box, found[0].inside)]
    return tuple(found)


def onto(scan: Scan, labels: np.ndarray, mask: Scan) -> np.ndarray:
    """Labels on the grid of a scan: as they are, or put in their place where they are a part of the grid.

    3D Slicer saves a segmentation cut to what is drawn.

    Raises:
        ScanError: they lie on another grid.
    """
    differences = compare_geometry(scan.affine, scan.shape, mask.affine, mask.shape)
    if not differences:
        return labels
    shift = np.linalg.solve(scan.affine, mask.affine[:, 3])[:3]
    corner = np.rint(shift).astype(int)
    reach = max(mask.shape)
    same = np.allclose(scan.affine[:3, :3], mask.affine[:3, :3], atol=_APART / reach)
    placed = np.abs(scan.affine[:3, :3] @ (shift - corner)).max() < _APART
    if not (same and placed):
        raise ScanError(
            f"its grid is not that of {scan.path}: {'; '.join(differences)}",
            path=mask.path,
            remedy="draw the mask on the scan's own grid, or resample it there (nearest neighbour)",
        )
    whole = np.zeros(scan.shape, dtype=labels.dtype)
    to = tuple(slice(max(0, c), max(0, c + n)) for c, n in zip(corner, labels.shape, strict=True))
    cut = tuple(
        slice(max(0, -c), max(0, min(n, total - c)))
        for c, n, total in zip(corner, labels.shape, scan.shape, strict=True)
    )
    whole[to] = labels[cut]
    return whole


def _point(scan: Scan, text: str, number: int, radius: float) -> Marked:
    name, sign, rest = text.rpartition("=")
    try:
        at = [float(part) for part in rest.split(",")]
    except ValueError:
        at = []
    if len(at) != 3:
        raise UsageError(f"'{text}' is no point", remedy="give R,A,S in mm, e.g. --at nodule=-42.5,10,118")
    return sphere(name if sign else f"point {number}", scan.affine, scan.shape, at, radius)


def _refuse_doubles(names: Sequence[str]) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UsageError(f"two marks are called '{double}'", remedy="name them: --roi NAME=mask.nii.gz")
