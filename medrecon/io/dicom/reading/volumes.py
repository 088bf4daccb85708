"""Copies of slices, and series that hold several volumes at the same positions (4D, echoes, contrasts)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.dicom.reading.header import Header
from medrecon.io.dicom.reading.slices import Slice
from medrecon.io.scan import LeftOut, ScanError

KEEP = "keep the slices of one volume only"


@dataclass(frozen=True)
class Choice:
    """The slices of the wanted volume, and which volume that is (None where there is one)."""

    indices: list[int]
    volume: int | None


def drop_copies(headers: Sequence[Header]) -> tuple[list[Header], list[LeftOut]]:
    """Drop files that are byte for byte the same as another one.

    Raises:
        ScanError: two different files have one SOP Instance UID.
    """
    by_uid: dict[str, Header] = {}
    kept, copies = [], []
    for header in headers:
        uid = header.text("SOPInstanceUID")
        other = by_uid.get(uid) if uid else None
        if other is None:
            by_uid[uid] = header
            kept.append(header)
        elif other.size == header.size and _digest(other.path) == _digest(header.path):
            copies.append(LeftOut(header.path, "a copy of a slice that is used"))
        else:
            raise ScanError(
                f"{other.path.name} and {header.path.name}: one SOP Instance UID, different contents",
                path=header.path,
                remedy="keep the right one",
            )
    return kept, copies


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def split_volumes(
    slices: Sequence[Slice], positions: np.ndarray, normal: np.ndarray, volume: int | None, path: Path
) -> Choice:
    """Choose the slices of one volume.

    Args:
        slices: all slices of the series.
        positions: (N, 3) their positions in LPS mm.
        normal: unit vector across the slices.
        volume: which volume, counted from 0; None where there must be only one.
        path: the series, for the message.

    Raises:
        ScanError: several volumes and none chosen, a choice that is not there, or slices at one position that
            nothing tells apart.
    """
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    places = np.zeros(len(order), int)
    places[order] = np.cumsum(np.concatenate([[0], np.diff(along[order]) > 1e-3]))
    groups = _grouped(places)
    most = max(map(len, groups))
    if most == 1:
        if volume not in (None, 0):
            raise ScanError(
                f"there is no volume {volume}: the series holds one", path=path, remedy="use --volume 0"
            )
        return Choice(list(range(len(slices))), None)
    pair = next(g for g in groups if len(g) > 1)
    names = f"{slices[pair[0]].name} and {slices[pair[1]].name}"
    if len(groups) == 1:
        raise ScanError(f"all {most} images are at one position ({names}): no volume", path=path, remedy=KEEP)
    name, volumes = _by_mark(slices, places, groups)
    if not volumes:
        raise ScanError(f"different slices at the same position: {names}", path=path, remedy=KEEP)
    labels = list(volumes)
    if volume is None or not 0 <= volume < len(labels):
        shown = ", ".join(f"{k} ({name} {label or 'none'})" for k, label in enumerate(labels[:12]))
        more = ", ..." if len(labels) > 12 else ""
        raise ScanError(
            f"holds {len(labels)} volumes at the same positions, {names} for example: {shown}{more}",
            path=path,
            remedy=f"choose one with --volume 0 ... {len(labels) - 1}",
        )
    return Choice(volumes[labels[volume]], volume)


def _grouped(places: np.ndarray) -> list[list[int]]:
    order = np.argsort(places, kind="stable")
    return [g.tolist() for g in np.split(order, np.flatnonzero(np.diff(places[order])) + 1)]


def _by_mark(
    slices: Sequence[Slice], places: np.ndarray, groups: Sequence[Sequence[int]]
) -> tuple[str, dict[str, list[int]]]:
    """The first mark under which each volume has at most one slice at each position, and all have as many."""
    for k, (name, _) in enumerate(slices[0].marks):
        labels = [s.marks[k][1] if k < len(s.marks) else "" for s in slices]
        found: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            found.setdefault(label, []).append(i)
        if _are_volumes(found, places):
            return name, {label: found[label] for label in sorted(found, key=_natural)}
    return _by_number(slices, places, groups)


def _are_volumes(found: dict[str, list[int]], places: np.ndarray) -> bool:
    """Whether each set of slices covers more than one position, none of them twice, and there are several."""
    return len(found) > 1 and all(
        len(members) > 1 and len(set(places[members].tolist())) == len(members) for members in found.values()
    )


def _by_number(
    slices: Sequence[Slice], places: np.ndarray, groups: Sequence[Sequence[int]]
) -> tuple[str, dict[str, list[int]]]:
    """Blocks of Instance Numbers, each once through all positions (GE functional series)."""
    count = len(groups[0])
    numbers = [s.number for s in slices]
    if (
        any(len(g) != count for g in groups)
        or len(set(numbers)) != len(numbers)
        or any(n != n for n in numbers)
    ):
        return "", {}
    order = sorted(range(len(slices)), key=lambda i: numbers[i])
    size = len(groups)
    found = {}
    for k in range(count):
        block = order[k * size : (k + 1) * size]
        found[f"{numbers[block[0]]:g}-{numbers[block[-1]]:g}"] = block
    return ("Instance Numbers", found) if _are_volumes(found, places) else ("", {})


def _natural(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), "")
    except ValueError:
        return (1, 0.0, label)
