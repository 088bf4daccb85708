"""The volumes that a page carries for its viewer: exact around one point, thinned out elsewhere to fit."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medrecon.evaluation.scores import AtlasVolumes, ScanScores
from medrecon.report.planes import View

_THINNEST = 8  # voxels along an axis below which it is thinned no further
_MOST_VOXELS = 256**3
_PROBE = 1 << 18
_BOX_SHARE = 0.4  # of the room, for the box that keeps every voxel
_LEAST_BOX = 8  # voxels along an axis


@dataclass(frozen=True)
class Part:
    """A regular part of the shown box, in voxels along left, posterior and superior.

    Attributes:
        origin: its first voxel.
        step: every so manieth voxel is kept.
        shape: voxels that it holds.
    """

    origin: tuple[int, int, int]
    step: tuple[int, int, int]
    shape: tuple[int, int, int]

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Take it out of the shown box (left, posterior, superior)."""
        each = zip(self.origin, self.step, self.shape, strict=True)
        return volume[tuple(slice(o, o + s * n, s) for o, s, n in each)]

    @property
    def exact(self) -> bool:
        """Whether no voxel in it is left out."""
        return self.step == (1, 1, 1)


@dataclass(frozen=True)
class Carried:
    """What a page carries.

    Attributes:
        parts: from coarse to fine; a later one is shown over an earlier one.
        coding: kind of volume -> (zero, step) of its 16-bit values; source units.
        volumes: (kind, layer) -> one text for each part; kinds are "source" and "mask" (layer ""),
            "reconstruction", "uncertainty" and "invented".
    """

    parts: tuple[Part, ...]
    coding: dict[tuple[str, str], tuple[float, float]]
    volumes: dict[tuple[str, str], tuple[str, ...]]


def carry(scores: ScanScores, volumes: AtlasVolumes, view: View, most_bytes: float) -> Carried | None:
    """Make the volumes of the viewer fit into a page.

    Where all voxels do not fit, the three planes through the view's point and a box around it keep each of
    theirs. Elsewhere voxels are left out, not averaged: a mean would hide the noise and the fine detail whose
    loss the viewer is there to show. The axis with the finest spacing is thinned first.

    Args:
        scores: which layers, and the units.
        volumes: source, reconstructions and maps.
        view: the box that is shown, and the point.
        most_bytes: that all of them together may take in the page.

    Returns:
        The volumes, or None where they do not fit however few voxels are kept.
    """
    if most_bytes <= 0:
        return None
    shown = {key: _shown(volume, view) for key, volume in _all(scores, volumes).items()}
    coding = _codings(shown, scores.units)

    def encode(part: Part) -> dict[tuple[str, str], str]:
        return {key: _encode(part.of(volume), coding[key]) for key, volume in shown.items()}

    extent = [stop - start for start, stop in view.box]
    at = [k - start for k, (start, _) in zip(view.at, view.box, strict=True)]
    probe = _base(extent, _thinned(extent, view.spacing, _PROBE))
    size = _size(encode(probe)) / math.prod(probe.shape)
    if size * math.prod(extent) <= most_bytes and math.prod(extent) <= _MOST_VOXELS:
        whole = encode(_base(extent, (1, 1, 1)))
        if _size(whole) <= most_bytes:
            return Carried((_base(extent, (1, 1, 1)),), coding, {key: (text,) for key, text in whole.items()})
    fine = [_around(extent, at, view.spacing, _BOX_SHARE * most_bytes / size), *_planes(extent, at)]
    exact = {part: encode(part) for part in fine if part is not None}
    left = most_bytes - sum(map(_size, exact.values()))
    if left <= 0:
        exact, left = {}, most_bytes
    factors = _thinned(extent, view.spacing, min(_MOST_VOXELS, left / size))
    while True:
        base = encode(_base(extent, factors))
        if _size(base) <= left:
            made = {_base(extent, factors): base, **exact}
            texts = {key: tuple(each[key] for each in made.values()) for key in shown}
            return Carried(tuple(made), coding, texts)
        coarser = _coarser(factors, extent, view.spacing)
        if coarser == factors:
            return None
        factors = coarser


def _all(scores: ScanScores, volumes: AtlasVolumes) -> dict[tuple[str, str], np.ndarray]:
    found = {("source", ""): volumes.source}
    if volumes.mask is not None:
        found["mask", ""] = volumes.mask
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


def _shown(volume: np.ndarray, view: View) -> np.ndarray:
    return view.turned(volume)[tuple(slice(start, stop) for start, stop in view.box)]


def _size(texts: Mapping[tuple[str, str], str]) -> int:
    return sum(map(len, texts.values()))


def _base(extent: Sequence[int], factors: tuple[int, int, int]) -> Part:
    """All of the box, the kept voxels in the middle of their blocks."""
    x, y, z = (-(-(n - f // 2) // f) for n, f in zip(extent, factors, strict=True))
    a, b, c = (f // 2 for f in factors)
    return Part((a, b, c), factors, (x, y, z))


def _planes(extent: Sequence[int], at: Sequence[int]) -> list[Part]:
    found = []
    for across in range(3):
        a, b, c = (at[k] if k == across else 0 for k in range(3))
        x, y, z = (1 if k == across else extent[k] for k in range(3))
        found.append(Part((a, b, c), (1, 1, 1), (x, y, z)))
    return found


def _around(
    extent: Sequence[int], at: Sequence[int], spacing: Sequence[float], most_voxels: float
) -> Part | None:
    """The largest box about a point, equally wide in mm as far as the volume reaches, of so many voxels."""
    widest = max(n * step for n, step in zip(extent, spacing, strict=True))
    for share in np.linspace(1, 0.02, 99):
        sizes = [
            max(1, min(n, round(share * widest / step))) for n, step in zip(extent, spacing, strict=True)
        ]
        if math.prod(sizes) <= most_voxels:
            if max(sizes) < _LEAST_BOX:
                return None
            starts = [max(0, min(n - k, c - k // 2)) for n, k, c in zip(extent, sizes, at, strict=True)]
            return Part((starts[0], starts[1], starts[2]), (1, 1, 1), (sizes[0], sizes[1], sizes[2]))
    return None


def _thinned(extent: Sequence[int], spacing: Sequence[float], most_voxels: float) -> tuple[int, int, int]:
    """Leave out as little as brings the voxels below a number, if that can be."""
    factors = (1, 1, 1)
    while math.prod(_base(extent, factors).shape) > most_voxels:
        coarser = _coarser(factors, extent, spacing)
        if coarser == factors:
            break
        factors = coarser
    return factors


def _coarser(
    factors: tuple[int, int, int], extent: Sequence[int], spacing: Sequence[float]
) -> tuple[int, int, int]:
    """Leave out more along the axis that has the finest spacing now, if enough voxels stay."""
    axes = [a for a in range(3) if extent[a] // (factors[a] + 1) >= _THINNEST]
    if not axes:
        return factors
    finest = min(axes, key=lambda a: (spacing[a] * factors[a], a))
    return tuple(f + (a == finest) for a, f in enumerate(factors))  # type: ignore[return-value]


def _codings(
    shown: Mapping[tuple[str, str], np.ndarray], units: str
) -> dict[tuple[str, str], tuple[float, float]]:
    """Zero point and step of each volume's 16-bit values.

    Whole HU, and whole numbers that fit, stay as they are; other values get 4,000 steps over the source's
    range, and maps 250 over their own.
    """
    source = shown["source", ""]
    low, high = float(np.nanmin(source)), float(np.nanmax(source))
    whole = units == "HU" or (
        np.issubdtype(source.dtype, np.integer) and high - low < 16000 and max(abs(low), high) < 24000
    )
    values = (0.0, 1.0) if whole else (low, (high - low) / 4000 or 1.0)
    known = {"source": values, "reconstruction": values, "mask": (0.0, 1.0)}
    return {key: known.get(key[0]) or (0.0, float(np.nanmax(v)) / 250 or 1.0) for key, v in shown.items()}


def _encode(part: np.ndarray, coding: tuple[float, float]) -> str:
    """Values as base64 of gzip: of the differences between neighbours, the low bytes and then the high ones.

    Order: left runs fastest, then posterior, then superior.
    """
    zero, step = coding
    values = np.rint((np.nan_to_num(part.T.astype(np.float32)) - zero) / step).ravel()
    stored = np.clip(values, -32768, 32767).astype(np.int16).view(np.uint16)
    apart = np.diff(stored, prepend=np.uint16(0)).astype("<u2")
    data = apart.view(np.uint8).reshape(-1, 2).T.tobytes()
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
