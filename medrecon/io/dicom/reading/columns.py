"""What slices of one series differ in: a column of texts for each mark, and groups that share all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrecon.io.dicom.reading.marks import CONTENT, DESCRIPTIONS, alternates, labels
from medrecon.io.dicom.reading.slices import Slice

Column = tuple[str, list[str]]
"""What differs between slices: a name, and a text for each slice."""


def grouped(columns: Sequence[Column], members: Sequence[int]) -> dict[tuple[str, ...], list[int]]:
    """The slices of each combination of texts."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in members:
        groups.setdefault(tuple(texts[i] for _, texts in columns), []).append(i)
    return groups


def content_columns(slices: Sequence[Slice]) -> list[Column]:
    """The marks of content in which the slices differ."""
    plain = all(not s.framed for s in slices)
    names = {name for s in slices for name in s.framed}
    values = [s.header.values for s in slices]
    tags = {tag for header in {id(v): v for v in values}.values() for tag in header}
    orders = [s.header.order for s in slices]
    found = []
    for mark in CONTENT:
        if mark.name not in names and mark.tag not in tags:
            continue
        if plain and mark.creator is None:
            raws = [v.get(mark.tag) for v in values]
        else:
            raws = [s.raw(mark) for s in slices]
        if raws.count(raws[0]) < len(raws):
            texts = labels(mark, raws, orders)
            if len(set(texts)) > 1:
                found.append((mark.name, texts))
    return found


def alternating_columns(slices: Sequence[Slice], places: np.ndarray) -> list[Column]:
    """What describes the slices and takes turns along the stack: two contents on one even grid."""
    orders = [s.header.order for s in slices]
    columns = [(mark.name, labels(mark, [s.raw(mark) for s in slices], orders)) for mark in DESCRIPTIONS]
    along = np.argsort(places).tolist()
    return [(name, texts) for name, texts in columns if alternates([texts[i] for i in along])]


def grid_columns(slices: Sequence[Slice]) -> list[Column]:
    """Matrix, orientation and pixel spacing, where slices differ in them by more than rounding."""
    found = [("matrix size", [f"{s.frame.columns} x {s.frame.rows}" for s in slices])]
    orientations, spacings = [s.orientation for s in slices], [s.spacing for s in slices]
    for name, tolerance, values in (("orientation", 1e-3, orientations), ("spacing", 1e-4, spacings)):
        seen: dict[tuple[float, ...] | None, str] = {}
        texts = []
        for value in values:
            if value not in seen:
                same = next((v for v in seen if _close(v, value, tolerance)), None)
                seen[value] = seen[same] if same is not None else _list(value)
            texts.append(seen[value])
        found.append((name, texts))
    return [(name, texts) for name, texts in found if len(set(texts)) > 1]


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None, tolerance: float) -> bool:
    return (
        a is not None
        and b is not None
        and len(a) == len(b)
        and all(abs(x - y) <= tolerance + 1e-4 * abs(y) for x, y in zip(a, b, strict=True))
    )


def _list(values: Sequence[float] | None) -> str:
    return "missing" if values is None else "\\".join(f"{v:.6g}" for v in values)
