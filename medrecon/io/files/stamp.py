"""A file that changes between the check of its header and the reading of its voxels is refused."""

from __future__ import annotations

import os
from pathlib import Path

from medrecon.io.scan import ScanError

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


def stamp_of(path: Path | int) -> Stamp:
    """The stamp of a file, by path or by descriptor."""
    status = os.stat(path)  # noqa: PTH116 - descriptors too
    return status.st_size, status.st_mtime_ns


def check_unchanged(path: Path, then: Stamp, descriptor: int | None = None) -> None:
    """Compare a file with its stamp.

    Args:
        path: the file.
        then: its stamp when its header was checked.
        descriptor: of the open file, which saves a look-up.

    Raises:
        ScanError: it is another one now, or gone.
    """
    try:
        now = stamp_of(path if descriptor is None else descriptor)
    except OSError as error:
        raise ScanError(
            f"cannot be opened ({error.strerror})", path=path, remedy="restore the file"
        ) from None
    if now != then:
        raise ScanError("changed while it was read", path=path, remedy="wait until it is complete")
