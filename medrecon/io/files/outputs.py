"""What a writer says of an output that it finished."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger("medrecon")


@dataclass(frozen=True)
class Written:
    """A finished output.

    Attributes:
        path: where it is.
        scan_key: of the source; `result` names what was made of it.
        format: "dicom", "nifti", "nrrd" or "mha".
        encoding: how values are stored, in words.
        clipped: voxels that did not fit and were set to the nearest value that does.
        warnings: what must be said, one line each.
        sha256: relative file name -> hash of its bytes.
        feature_distance: of its features to those that it was made from, over the length of those; None where
            it was not measured.
    """

    path: Path
    scan_key: str
    result: str
    format: str
    encoding: str
    clipped: int
    warnings: tuple[str, ...]
    sha256: dict[str, str]
    feature_distance: float | None = None


def hash_file(path: Path) -> str:
    """SHA-256 of one file, in pieces (hashlib.file_digest needs Python 3.11)."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
