"""Names of outputs: made here, from what the series says of itself, never from an identity or a UID."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import pydicom
from pydicom.errors import InvalidDicomError

from medrecon.io.scan import Scan

_LONGEST = 40
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
_UID = re.compile(r"\d+(?:\.\d+){3,}")
_SHORTEST_SECRET = 3


def safe_name(text: str, fallback: str = "scan", longest: int = _LONGEST) -> str:
    """A file name of letters, digits, `-`, `_`, `.` and `+` that means the same on each system.

    Args:
        text: anything, for instance a SeriesDescription.
        fallback: what to use when nothing of it can stay.
        longest: number of characters kept.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    plain = re.sub(r"[^A-Za-z0-9_.+]+", "-", plain)
    plain = re.sub(r"\.{2,}", ".", plain)[:longest].strip("-._+")
    if not plain:
        return fallback
    return f"{fallback}-{plain}" if _RESERVED.fullmatch(plain.split(".")[0]) else plain


def scan_label(scan: Scan) -> str:
    """What a scan is called in file names, manifests and logs: its description without identity, and its key.

    UIDs and anything that stands in the source's PatientName or PatientID are taken out of the description.
    """
    text = _UID.sub(" ", scan.description)
    for secret in secrets(scan):
        text = re.sub(re.escape(secret), " ", text, flags=re.IGNORECASE)
    return f"{safe_name(text)}_{scan.key}"


def secrets(scan: Scan) -> list[str]:
    """The parts of the patient's name, ID and birth date in the source's header, longest first."""
    if scan.format != "dicom":
        return []
    tags = ["PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate"]
    try:
        header = pydicom.dcmread(scan.files[0], specific_tags=tags, stop_before_pixels=True)
        words = [str(header.get(tag, "")) for tag in tags]
    except (OSError, InvalidDicomError, ValueError):
        return []
    parts = {part for word in words for part in re.split(r"[\^=\s,]+", word)} | set(words)
    return sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)


def result_names(results: Iterable[str]) -> dict[str, str]:
    """Result -> file name, different for each also where letter case is not told apart."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for result in results:
        name = safe_name(result, "result")
        if name != result or name.lower() in taken:
            name = f"{name}-{hashlib.sha256(result.encode()).hexdigest()[:6]}"
        names[result] = name
        taken.add(name.lower())
    return names
