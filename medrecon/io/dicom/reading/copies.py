"""Copies of slices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from medrecon.io.dicom.reading.header import Header
from medrecon.io.scan import LeftOut, ScanError


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
