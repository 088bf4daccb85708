"""Copies of slices, and series that hold several volumes at the same positions (4D, echoes, contrasts)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medrecon.io.dicom_header import Header
from medrecon.io.scan import ScanError

MARKS = (
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "ImageType",
    "ComplexImageComponent",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
"""What tells volumes of one series apart, the plainest first."""


def drop_copies(headers: Sequence[Header]) -> tuple[list[Header], list[str]]:
    """Drop files that are byte for byte the same; refuse two different files with one SOP Instance UID."""
    by_uid: dict[str, Header] = {}
    kept, notes = [], []
    for header in headers:
        uid = header.text("SOPInstanceUID")
        other = by_uid.get(uid) if uid else None
        if other is None:
            by_uid[uid] = header
            kept.append(header)
        elif other.size == header.size and _digest(other.path) == _digest(header.path):
            notes.append(f"{header.path.name} is a copy of {other.path.name}: left out")
        else:
            raise ScanError(
                f"{other.path.name} and {header.path.name} have the same SOP Instance UID and different contents",
                path=header.path,
                remedy="keep the right one",
            )
    return kept, notes


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def split_volumes(
    headers: Sequence[Header], positions: np.ndarray, normal: np.ndarray, volume: int | None, path: Path
) -> list[int]:
    """Indices of the slices of the wanted volume.

    Args:
        headers: one per slice.
        positions: (N, 3) their positions in LPS mm.
        normal: unit vector across the slices.
        volume: which volume, counted from 0; None where there must be only one.
        path: the series, for the message.

    Raises:
        ScanError: several volumes and none chosen, a choice that is not there, or slices at one position that
            nothing tells apart.
    """
    places: dict[int, list[int]] = {}
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    last = None
    for i in order:
        if last is None or along[i] - along[last] > 1e-3:
            last = i
        places.setdefault(int(last), []).append(int(i))
    groups = list(places.values())
    most = max(map(len, groups))
    if most == 1:
        if volume not in (None, 0):
            raise ScanError(
                f"there is no volume {volume}: the series holds one", path=path, remedy="use --volume 0"
            )
        return list(range(len(headers)))
    name, volumes = _by_mark(headers, groups)
    if not volumes:
        pair = next(g for g in groups if len(g) > 1)
        names = f"{headers[pair[0]].path.name} and {headers[pair[1]].path.name}"
        if len(groups) == 1:
            raise ScanError(
                f"all {most} slices are at one position ({names}...): no volume", path=path, remedy=KEEP
            )
        raise ScanError(f"different slices at the same position: {names}", path=path, remedy=KEEP)
    labels = list(volumes)
    if volume is None or not 0 <= volume < len(labels):
        shown = ", ".join(f"{k} ({name} {label or 'none'})" for k, label in enumerate(labels[:12]))
        raise ScanError(
            f"holds {len(labels)} volumes at the same positions: {shown}{', ...' if len(labels) > 12 else ''}",
            path=path,
            remedy=f"choose one with --volume 0 ... {len(labels) - 1}",
        )
    return volumes[labels[volume]]


KEEP = "keep the slices of one volume only"


def _by_mark(headers: Sequence[Header], groups: Sequence[Sequence[int]]) -> tuple[str, dict[str, list[int]]]:
    """The first mark under which each volume has at most one slice at each position."""
    for name in MARKS:
        labels = [h.text(name) for h in headers]
        if any(len({labels[i] for i in g}) != len(g) for g in groups):
            continue
        found: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            found.setdefault(label, []).append(i)
        if max(map(len, found.values())) == 1 and len(groups) > 1:
            continue  # another label in every slice tells nothing
        return name, {k: found[k] for k in sorted(found, key=_natural)}
    return "", {}


def _natural(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), "")
    except ValueError:
        return (1, 0.0, label)
