"""The volumes that a page carries for its viewer: cut to the body, thinned out until they fit."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from medrecon.evaluation.scores import AtlasVolumes, ScanScores
from medrecon.report.planes import make_view
from medrecon.report.tiles import body_threshold

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_THINNEST = 8  # voxels along an axis below which it is thinned no further
_MOST_VOXELS = 256**3
_PROBE = 1 << 18


@dataclass(frozen=True)
class Inlined:
    """Volumes as base64 of gzipped NIfTI-1.

    Attributes:
        factors: every so manieth voxel is kept, along each axis.
        shape: of the volumes, voxels.
        step: difference of neighbouring stored values, source units.
        centre: of the body, mm in RAS.
        volumes: (kind, layer) -> text; kinds are "source" (layer ""), "reconstruction", "uncertainty" and
            "invented".
    """

    factors: tuple[int, int, int]
    shape: tuple[int, int, int]
    step: float
    centre: tuple[float, float, float]
    volumes: dict[tuple[str, str], str]

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(map(len, self.volumes.values()))


def inline_volumes(scores: ScanScores, volumes: AtlasVolumes, most_bytes: float) -> Inlined | None:
    """Make the volumes of the viewer fit into a page.

    Voxels are left out, not averaged: a mean would hide the noise and the fine detail whose loss the viewer
    is there to show. The axis with the finest spacing is thinned first.

    Args:
        scores: which layers, the units and the spacing.
        volumes: source, reconstructions and maps.
        most_bytes: that all of them together may take in the page.

    Returns:
        The volumes, or None where they do not fit however few voxels are kept.
    """
    view = make_view(volumes.source, scores.spacing, _LPS, None, body_threshold(volumes.source, scores.units))
    box = view.box
    kept = _all(scores, volumes)
    zero, step = _coding(volumes.source, scores.units)
    extent = [stop - start for start, stop in box]

    def encode(factors: tuple[int, int, int]) -> dict[tuple[str, str], str]:
        codings = {"source": (zero, step), "reconstruction": (zero, step)}
        return {
            key: _encode(volume, volumes.affine, box, factors, codings.get(key[0]))
            for key, volume in kept.items()
        }

    # how well all of them compress is seen on few voxels, which compress a little worse than many
    probe = _thinned(extent, scores.spacing, _PROBE)
    size = sum(map(len, encode(probe).values())) / math.prod(_counts(extent, probe))
    factors = _thinned(extent, scores.spacing, min(_MOST_VOXELS, most_bytes / size))
    while most_bytes > 0:
        made = encode(factors)
        if sum(map(len, made.values())) <= most_bytes:
            x, y, z, _ = np.asarray(volumes.affine) @ [*view.at, 1]
            centre = float(x), float(y), float(z)
            return Inlined(factors, _counts(extent, factors), step, centre, made)
        coarser = _coarser(factors, extent, scores.spacing)
        if coarser == factors:
            break
        factors = coarser
    return None


def _thinned(extent: Sequence[int], spacing: Sequence[float], most_voxels: float) -> tuple[int, int, int]:
    """Leave out as little as brings the voxels below a number, if that can be."""
    factors = (1, 1, 1)
    while math.prod(_counts(extent, factors)) > most_voxels:
        coarser = _coarser(factors, extent, spacing)
        if coarser == factors:
            break
        factors = coarser
    return factors


def _all(scores: ScanScores, volumes: AtlasVolumes) -> dict[tuple[str, str], np.ndarray]:
    found = {("source", ""): volumes.source}
    for layer in scores.layers:
        name = layer.layer
        for kind, there in (
            ("reconstruction", volumes.reconstructions.get(name)),
            ("uncertainty", volumes.uncertainty.get(name)),
            ("invented", volumes.invented.get(name)),
        ):
            if there is not None:
                found[kind, name] = there
    return found


def _counts(extent: Sequence[int], factors: Sequence[int]) -> tuple[int, int, int]:
    """Voxels that stay along each axis, the first in the middle of its block."""
    x, y, z = (-(-(n - f // 2) // f) for n, f in zip(extent, factors, strict=True))
    return x, y, z


def _coarser(
    factors: tuple[int, int, int], extent: Sequence[int], spacing: Sequence[float]
) -> tuple[int, int, int]:
    """Leave out more along the axis that has the finest spacing now, if enough voxels stay."""
    axes = [a for a in range(3) if extent[a] // (factors[a] + 1) >= _THINNEST]
    if not axes:
        return factors
    finest = min(axes, key=lambda a: (spacing[a] * factors[a], a))
    return tuple(f + (a == finest) for a, f in enumerate(factors))  # type: ignore[return-value]


def _coding(source: np.ndarray, units: str) -> tuple[float, float]:
    """Zero point and step of 16-bit values: whole HU, otherwise 4,000 steps over the range, 1 if they fit."""
    low, high = float(np.nanmin(source)), float(np.nanmax(source))
    if units == "HU":
        return 0.0, 1.0
    if np.issubdtype(source.dtype, np.integer) and high - low < 16000 and max(abs(low), high) < 24000:
        return 0.0, 1.0
    return low, (high - low) / 4000 or 1.0


def _encode(
    volume: np.ndarray,
    affine: np.ndarray,
    box: Sequence[tuple[int, int]],
    factors: tuple[int, int, int],
    coding: tuple[float, float] | None,
) -> str:
    """Write one volume as NIfTI: int16 by `coding` (zero, step), or uint8 over its own range from zero."""
    starts = [start + f // 2 for (start, _), f in zip(box, factors, strict=True)]
    stops = [stop for _, stop in box]
    part = volume[tuple(slice(a, b, f) for a, b, f in zip(starts, stops, factors, strict=True))]
    values = np.nan_to_num(part.astype(np.float32))
    if coding is None:
        zero, step = 0.0, (float(values.max()) if values.size else 0.0) / 255 or 1.0
        stored = np.clip(np.rint(values / step), 0, 255).astype(np.uint8)
    else:
        zero, step = coding
        stored = np.clip(np.rint((values - zero) / step), -32768, 32767).astype(np.int16)
    matrix = np.asarray(affine, dtype=np.float64) @ np.diag([*map(float, factors), 1.0])
    matrix[:3, 3] = (np.asarray(affine) @ np.array([*starts, 1.0]))[:3]
    image = nib.Nifti1Image(stored, matrix)
    image.set_sform(matrix, 1)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(step, zero)
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()
