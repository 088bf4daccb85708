"""What a user says of the scans that were found: that one is a CT in HU, that several belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medrecon.errors import UsageError
from medrecon.io.files.names import scan_words
from medrecon.io.scan import Found, Scan, ScanError


def with_hu(scan: Scan) -> Scan:
    """The same scan, its values taken as HU where its file cannot say so: NIfTI, NRRD and MHA of a CT.

    Raises:
        UsageError: the file does say, and says otherwise.
    """
    if scan.units == "HU":
        return scan
    if scan.format == "dicom":
        raise UsageError(
            f"--hu does not suit a DICOM series of modality {scan.modality or 'unknown'}",
            path=scan.path,
            remedy="leave --hu out: DICOM says what its units are",
        )
    return replace(scan, modality="CT", units="HU", options=replace(scan.options, hu=True))


def named_from_source(found: Found) -> Found:
    """The same scans, which outputs are to name after their descriptions and files, as the user asked."""
    return replace(found, scans=tuple(replace(scan, named_from_source=True) for scan in found.scans))


def refuse_mixed(found: Found) -> Found:
    """Refuse several DICOM series that lie in one folder: they may be mixed by mistake, even of two patients.

    Returns:
        What was given.

    Raises:
        ScanError: the choices, and the options that settle it.
    """
    places: dict[Path, list[Scan]] = {}
    for scan in found.scans:
        if scan.format == "dicom":
            for folder in {file.parent for file in scan.files}:
                places.setdefault(folder, []).append(scan)
    for folder, scans in places.items():
        if len(scans) > 1:
            listed = [scan_words(scan) for scan in scans[:8]]
            more = f" and {len(scans) - 8} more" if len(scans) > 8 else ""
            raise ScanError(
                f"holds {len(scans)} series: {', '.join(listed)}{more}",
                path=folder,
                remedy=f"choose one, such as --series {scans[0].key}, or take them all with --all-series; "
                "`medrecon scans` tells which is which",
            )
    return found
