"""A face that comes back: how much of its surface a head's features give, and those of a defaced head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.data import MetaTensor
from scipy import ndimage

from medrecon.atlas.audit.network import AuditNetwork
from medrecon.errors import UsageError

AUTO = "auto"
ROUGH = "the front 35 % of the head's depth, below the upper third of its height: a rough box, no outline"
TOLERANCE = 1.0
"""Voxels of the common grid that two surfaces may lie apart."""


@dataclass(frozen=True)
class Face:
    """The face of one head on the common grid.

    Attributes:
        volume: (1, n, n, n), source units.
        region: (n, n, n) bool: what defacing takes away.
        level: the value between air and skin.
        surface: (n, n, n) bool: voxels of the outer surface within the region.
    """

    volume: MetaTensor
    region: np.ndarray
    level: float
    surface: np.ndarray

    @property
    def defaced(self) -> MetaTensor:
        """The volume with nothing but its least value in the region."""
        values = self.volume.as_tensor().clone()
        values[0][self.region] = float(values.min())
        return MetaTensor(values).copy_meta_from(self.volume)


def face_of(volume: MetaTensor, region: np.ndarray | None) -> Face | None:
    """The face of a head; None where the region holds no outer surface to speak of.

    Args:
        volume: (1, n, n, n) on the common grid (RAS).
        region: (n, n, n) bool; None takes `ROUGH`.
    """
    values = volume.as_tensor()[0].numpy()
    level = skin_level(values, str(volume.meta.get("units", "")))
    head = values > level
    if region is None:
        region = rough_region(head)
    # what lies at the region's own walls is the cut, not the face
    within = ndimage.binary_erosion(region, iterations=2, border_value=1)
    surface = outer_surface(head) & within
    return Face(volume, region, level, surface) if surface.sum() >= 20 else None


def skin_level(values: np.ndarray, units: str) -> float:
    """The value between air and skin: -300 HU; else a quarter of the way from the least to the usual."""
    if units == "HU":
        return -300.0
    least = float(values.min())
    bright = values[values > values.mean()]
    return least + 0.25 * (float(np.median(bright)) - least) if bright.size else least


def rough_region(head: np.ndarray) -> np.ndarray:
    """The box that `ROUGH` says, and all of the air in front of it; (n, n, n) bool."""
    region = np.zeros_like(head)
    if not head.any():
        return region
    (_, _), (back, front), (low, high) = (
        (int(where.min()), int(where.max()) + 1) for where in np.nonzero(head)
    )
    region[:, round(front - 0.35 * (front - back)) :, : round(high - (high - low) / 3)] = True
    return region


def outer_surface(head: np.ndarray) -> np.ndarray:
    """The voxels of a head that touch the air around it; not those of its sinuses."""
    labels, _ = ndimage.label(~head)
    rim = np.concatenate([labels.take(end, axis).ravel() for axis in range(3) for end in (0, -1)])
    outside = np.isin(labels, np.setdiff1d(rim, 0))
    return np.asarray(ndimage.binary_dilation(outside) & head)


def surface_dice(first: np.ndarray, second: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The share of two surfaces that lies within a tolerance of the other (Nikolov et al. 2018).

    Args:
        first: bool, of any shape.
        second: the same.
        tolerance: voxels.

    Returns:
        0 to 1; 0 where one of them is empty.
    """
    if not first.any() or not second.any():
        return 0.0
    near = [
        (ndimage.distance_transform_edt(~other)[one] <= tolerance).sum()
        for one, other in ((first, second), (second, first))
    ]
    return float(sum(near) / (first.sum() + second.sum()))


def face_rows(network: AuditNetwork, faces: Sequence[Face]) -> list[dict[str, object]]:
    """How much of each face comes back, by layer, of the whole and of the defaced head.

    "own" is the surface Dice with the face of the same head, "others" the mean with the other heads' faces,
    which the body's position alone gives. Only what "own" has beyond "others" tells who it is.

    Args:
        network: makes the images.
        faces: one for each head.

    Returns:
        Rows of "layer" ("" for the scan itself), "head" ("whole" or "defaced"), "own", "others", "heads".

    Raises:
        UsageError: there is no face.
    """
    if not faces:
        raise UsageError(
            "no scan shows a face in the region", remedy="give a mask of it, or leave --face out"
        )
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, face in enumerate(faces):
        for head, volume in (("whole", face.volume), ("defaced", face.defaced)):
            seen = network.see(volume)
            made = {"": volume.as_tensor()[0].numpy()}
            made |= {r: network.home(network.invert(r, seen), seen) for r in network.results}
            for layer, values in made.items():
                here = _surface(values, face)
                own = surface_dice(here, face.surface)
                others = [surface_dice(here, each.surface) for k, each in enumerate(faces) if k != number]
                mean = float(np.mean(others)) if others else float("nan")
                found.setdefault((layer, head), []).append((own, mean))
    return [
        {
            "layer": layer,
            "head": head,
            "own": float(np.mean([own for own, _ in pairs])),
            "others": None if len(faces) < 2 else float(np.mean([other for _, other in pairs])),
            "heads": len(pairs),
        }
        for (layer, head), pairs in found.items()
    ]


def _surface(values: np.ndarray, face: Face) -> np.ndarray:
    within = ndimage.binary_erosion(face.region, iterations=2, border_value=1)
    return np.asarray(outer_surface(values > face.level) & within)
