"""Copies of slices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from medrecon.io.dicom.reading.header import Header
from medrecon.io.scan import LeftOut, ReadOptions, ScanError, or_accept


def drop_copies(headers: Sequence[Header], options: ReadOptions) -> tuple[list[Header], list[LeftOut]]:
    """Drop files that are byte for byte the same as another one.

    Args:
        headers: of one series.
        options: what the user allows.

    Raises:
        ScanError: two different files have one SOP Instance UID.
    """
    by_uid: dict[str, list[Header]] = {}
    digests: dict[Path, bytes] = {}

    def digest(header: Header) -> bytes:
        if header.path not in digests:
            digests[header.path] = hashlib.sha256(header.path.read_bytes()).digest()
        return digests[header.path]

    kept, copies = [], []
    for header in headers:
        uid = header.text("SOPInstanceUID")
        others = by_uid.setdefault(uid, []) if uid else []
        if any(other.size == header.size and digest(other) == digest(header) for other in others):
            copies.append(LeftOut(header.path, "a copy of a slice that is used"))
            continue
        if others and not options.accepts("same-uid"):
            raise ScanError(
                f"{others[0].path.name} and {header.path.name}: one SOP Instance UID, different contents",
                path=header.path,
                remedy="keep the right one" + or_accept("same-uid"),
            )
        others.append(header)
        kept.append(header)
    return kept, copies
