"""What somebody marked in a scan: labels of a mask, or the surroundings of a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from medrecon.errors import UsageError

_MOST_LABELS = 250

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Marked:
    """A part of a scan with a name.

    Attributes:
        name: what to call it.
        box: the smallest part of the grid that holds it.
        inside: (X, Y, Z) bool, in the box.
    """

    name: str
    box: Box
    inside: np.ndarray = field(repr=False, compare=False)

    @property
    def voxels(self) -> int:
        """How many it holds."""
        return int(self.inside.sum())


def from_labels(
    labels: np.ndarray, shape: Sequence[int], names: Mapping[int, str] | None = None, only: str = "roi"
) -> tuple[Marked, ...]:
    """Each label but 0 of a mask.

    Args:
        labels: whole numbers on the scan's grid.
        shape: of the scan.
        names: label -> what to call it.
        only: what a single label is called that has no name; of several, number 7 is "roi 7".

    Raises:
        UsageError: the mask has another shape, holds no label, or too many, or anything but whole numbers.
    """
    if labels.shape != tuple(shape):
        raise UsageError(
            f"the mask has shape {labels.shape}, the scan {tuple(shape)}", remedy="draw it on the scan's grid"
        )
    found = np.unique(labels)
    if not np.array_equal(found, np.rint(found)):
        raise UsageError("the mask holds values between whole numbers", remedy="give a mask of labels")
    found = found[found != 0]
    if not 0 < len(found) <= _MOST_LABELS:
        raise UsageError(
            f"the mask holds {len(found)} labels", remedy=f"give 1 to {_MOST_LABELS} labels other than 0"
        )
    marked = []
    for value in found:
        name = (names or {}).get(int(value)) or (only if len(found) == 1 else f"{only} {int(value)}")
        marked.append(_cut(name, labels == value))
    return tuple(marked)


def sphere(name: str, affine: np.ndarray, shape: Sequence[int], at: Sequence[float], radius: float) -> Marked:
    """The voxels within a distance of a point.

    Args:
        name: what to call it.
        affine: (4, 4), voxel index -> RAS mm.
        shape: of the scan.
        at: the point, mm to the patient's right, front and head.
        radius: mm.

    Raises:
        UsageError: the point lies outside of the scan, or the sphere holds no voxel.
    """
    affine = np.asarray(affine, dtype=np.float64)
    centre = np.linalg.solve(affine, [*at, 1.0])[:3]
    if not np.all((centre > -0.5) & (centre < np.array(shape) - 0.5)):
        said = ", ".join(f"{v:g}" for v in at)
        raise UsageError(
            f"the point {said} lies outside of the scan", remedy="give R,A,S in mm, as in the viewer"
        )
    reach = radius * np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1)
    low = np.maximum(0, np.floor(centre - reach)).astype(int)
    high = np.minimum(shape, np.ceil(centre + reach) + 1).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    places = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1)
    apart = (places - centre) @ affine[:3, :3].T
    inside = np.square(apart).sum(axis=-1) <= radius**2
    if not inside.any():
        raise UsageError(f"no voxel lies within {radius:g} mm of the point", remedy="give a larger --radius")
    return Marked(name, box, inside)  # type: ignore[arg-type]


def overlay(marked: Sequence[Marked], shape: Sequence[int]) -> np.ndarray:
    """All of them in one mask, numbered from 1; what comes later lies on top."""
    labels = np.zeros(tuple(shape), dtype=np.uint8)
    for number, each in enumerate(marked, start=1):
        labels[each.box][each.inside] = number
    return labels


def _cut(name: str, inside: np.ndarray) -> Marked:
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    return Marked(name, box, inside[box].copy())
