"""Distances between slices: which lie at one position, whether they are even, and an even grid where not.

Positions have few digits in real headers, so what counts as even follows from the digits that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medrecon.io.scan import ScanError

SPACING_REMEDY = "find the missing or misplaced slices and export the series again"
RESAMPLE = "use --resample to resample it onto a straight, even grid"
MOST_SLICES = 40  # times as many as there are, at most, on an even grid
_SAME = 1e-3  # mm; closer slices are at one position
_NEAR = 0.1  # mm; so are slices closer than this, where the next position is ten times as far away


def places_of(along: np.ndarray) -> np.ndarray:
    """The number of each slice's position along the stack, from 0.

    Args:
        along: (N,) mm along the normal, in any order. Slices closer than 0.001 mm are at one position, and
            slices closer than 0.1 mm too where positions are ten times as far apart.
    """
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    far = gaps[gaps > _NEAR]
    limit = max(_SAME, min(_NEAR, 0.1 * float(np.median(far)))) if len(far) else _SAME
    places = np.zeros(len(along), int)
    places[order] = np.cumsum(np.concatenate([[0], gaps > limit]))
    return places


def half_unit(texts: Sequence[str]) -> float:
    """Half of the last digit of printed numbers; 0 where none has a fraction or one has six digits.

    Args:
        texts: decimal strings, several values separated by backslashes; "1.0" is a whole number.
    """
    most = 0
    for text in texts:
        for part in text.lower().split("\\"):
            mantissa, _, exponent = part.strip().partition("e")
            fraction = mantissa.partition(".")[2]
            if exponent:
                most = max(most, len(fraction) - int(exponent))
            elif fraction != "0":
                most = max(most, len(fraction))
        if most >= 6:
            return 0.0
    return 0.5 * 10.0**-most if most else 0.0


def unevenness(along: np.ndarray, rounding: float) -> float | None:
    """How far sorted slices are off the best even grid in mm; None where that is more than rounding.

    Each may be off its place by 1 % of the distance, by 0.1 mm where that is less than 2 %, or by what the
    printed digits lose (twice half a digit) where that is less than 20 %.

    Args:
        along: (N,) sorted positions in mm, two at least.
        rounding: half of the last printed digit, along the normal, in mm.
    """
    index = np.arange(len(along))
    slope, start = np.polyfit(index, along - along[0], 1)
    off = float(np.abs(along - along[0] - slope * index - start).max())
    usual = float(np.median(np.diff(along)))
    tolerance = max(0.01 * usual, min(0.1, 0.02 * usual), min(2.02 * rounding, 0.2 * usual))
    even = off <= tolerance and np.abs(np.diff(along) - slope).max() <= 3 * tolerance
    return off if even else None


def uneven(along: np.ndarray, names: Sequence[str], path: Path) -> ScanError:
    """The refusal of sorted slices at uneven distances: what is wrong, where, by how many mm."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    tolerance = max(0.01 * usual, min(0.1, 0.02 * usual))
    runs = _runs(gaps, tolerance)
    if len(runs) > 1 and all(count > 1 for _, count in runs) and len(runs) <= 4:
        said = ", then ".join(f"{count} of {gap:.3f} mm" for gap, count in runs)
        last = runs[0][1]
        what = f"the slice distance changes after slice {last + 1} of {len(names)} ({names[last]}): {said}"
        return ScanError(what, path=path, remedy=RESAMPLE)
    wrong = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    first = int(wrong[0]) if len(wrong) else int(np.argmax(np.abs(gaps - usual)))
    more = f" (and at {len(wrong) - 1} more places)" if len(wrong) > 1 else ""
    missing = round(float(gaps[first]) / usual) - 1
    whole = abs(float(gaps[first]) - (missing + 1) * usual) <= 2 * tolerance
    kind = f"{missing} slice(s) missing" if missing > 0 and whole else "uneven slice spacing"
    what = (
        f"{kind} after slice {first + 1} of {len(names)} ({names[first]}): {gaps[first]:.3f} mm to "
        f"{names[first + 1]} instead of {usual:.3f} mm{more}"
    )
    return ScanError(what, path=path, remedy=f"{SPACING_REMEDY}, or {RESAMPLE}")


def _runs(gaps: np.ndarray, tolerance: float) -> list[tuple[float, int]]:
    """Equal distances that follow each other: (mean in mm, how many)."""
    parts = np.split(gaps, np.flatnonzero(np.abs(np.diff(gaps)) > 2 * tolerance) + 1)
    return [(float(part.mean()), len(part)) for part in parts]


def even_grid(along: np.ndarray, path: Path) -> np.ndarray:
    """Even positions from the first slice to the last, as far apart as close slices are, or a little less.

    That distance is the smallest one but for one in ten: two stacks that meet may overlap.

    Args:
        along: (N,) sorted positions in mm, two at least.
        path: the scan, for the message.

    Returns:
        (M,) each even position as a place among the slices: 2.25 lies a quarter of the way from slice 2 to 3.

    Raises:
        ScanError: it would need more than forty times as many slices.
    """
    gaps = np.diff(along)
    close = float(np.sort(gaps)[len(gaps) // 10])
    count = int(np.ceil((along[-1] - along[0]) / close - 0.02)) + 1
    if count > MOST_SLICES * len(along):
        raise ScanError(
            f"distances of {gaps.min():.3f} to {gaps.max():.3f} mm between slices: an even grid would need "
            f"{count} slices in the place of {len(along)}",
            path=path,
            remedy=SPACING_REMEDY,
        )
    even = np.linspace(along[0], along[-1], count)
    places = np.interp(even, along, np.arange(len(along), dtype=float))
    near = np.rint(places)
    off = np.abs(along[near.astype(int)] - even)
    return np.where(off <= 0.02 * close, near, places)
