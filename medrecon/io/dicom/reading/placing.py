"""Slices whose geometry is missing, placed by their numbers where the user accepts that."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medrecon.io.dicom.reading.columns import content_columns, grid_columns, grouped
from medrecon.io.dicom.reading.marks import RANKING, rank_key
from medrecon.io.dicom.reading.slices import Slice
from medrecon.io.geometry import check_orientation, check_spacing
from medrecon.io.scan import ScanError

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_NUMBER = next(mark for mark in RANKING if mark.name == "InstanceNumber")


def placed(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """The slices with a geometry each, and what was made up for it.

    An orientation that is missing or impossible becomes axial; a pixel spacing that of the detector, or 1 mm.
    Where a slice has no position, all slices are put one after the other in the order of their Instance
    Numbers, those of each content by themselves.

    Args:
        slices: of one series.
    """
    turned = [one if _has_orientation(one) else replace(one, orientation=AXIAL) for one in slices]
    sized = [one if _has_spacing(one) else replace(one, spacing=_detector(one)) for one in turned]
    lost = sum(not one.position for one in slices)
    notes = []
    if lost:
        sized, step = _in_order(sized)
        notes.append(
            f"{lost} of {len(slices)} slices without Image Position: placed by Instance Number, {step:g} mm "
            "apart; head and feet may be exchanged"
        )
    if count := sum(new is not old for new, old in zip(turned, slices, strict=True)):
        notes.append(f"{count} of {len(slices)} slices without a valid Image Orientation: taken as axial")
    if count := sum(not _has_spacing(one) for one in slices):
        size = " x ".join(f"{v:g}" for v in next(n.spacing or () for n in sized))
        notes.append(f"{count} of {len(slices)} slices without a valid Pixel Spacing: taken as {size} mm")
    return sized, notes


def _has_orientation(one: Slice) -> bool:
    try:
        check_orientation(one.orientation, one.header.path)
    except ScanError:
        return False
    return True


def _has_spacing(one: Slice) -> bool:
    try:
        check_spacing(one.spacing, one.header.path)
    except ScanError:
        return False
    return True


def _detector(one: Slice) -> tuple[float, float]:
    given = one.header.numbers("ImagerPixelSpacing")
    return (given[0], given[1]) if given and len(given) == 2 and 1e-3 < min(given) < 100 else (1.0, 1.0)


def _in_order(slices: Sequence[Slice]) -> tuple[list[Slice], float]:
    """The slices one after the other, each content by itself, and the distance between them in mm."""
    given = slices[0].header.number("SpacingBetweenSlices") or slices[0].thickness or 1.0
    step = abs(given) if 1e-3 < abs(given) < 1000 else 1.0
    made = list(slices)
    columns = [*grid_columns(slices), *content_columns(slices)]
    for members in grouped(columns, range(len(slices))).values():
        for rank, i in enumerate(sorted(members, key=lambda i: _number(slices[i]))):
            across = np.cross(*np.reshape(slices[i].orientation or AXIAL, (2, 3)))
            made[i] = replace(slices[i], position=tuple(float(v) for v in rank * step * across))
    return made, step


def _number(one: Slice) -> tuple[tuple[float, ...], list[tuple[int, str]]]:
    """Sorts by Instance Number, and by name with its numbers as numbers."""
    value = rank_key(_NUMBER.value(one.raw(_NUMBER), one.header.order))
    parts = re.findall(r"\d{1,18}|\D+", one.name)
    return value or (math.inf,), [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]
