"""What a user says of the scans that were found: that one is a CT in HU, that several belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

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


def check_units(units: str, *scans: Scan) -> None:
    """Refuse scans that have no HU where a network takes nothing else ("HU").

    Raises:
        ScanError: of the first.
    """
    for scan in scans:
        if units == "HU" and scan.units != "HU":
            said = scan.modality or "of an unknown modality"
            raise ScanError(
                f"the network takes CT in HU, and this scan is {said}",
                path=scan.path,
                remedy="give a CT (--hu where the file cannot say that its values are HU), or another "
                "intensity map (_intensity_)",
            )


def check_any_units(units: str, scans: Sequence[Scan]) -> None:
    """Refuse scans of which a network takes none, before something long is made for them.

    Raises:
        ScanError: none of them has the units; of the first.
    """
    refused: list[ScanError] = []
    for scan in scans:
        try:
            check_units(units, scan)
        except ScanError as error:
            refused.append(error)
    if refused and len(refused) == len(scans):
        raise refused[0]


def check_one_grid(scan: Scan, first: Scan) -> None:
    """Refuse a scan that cannot be a channel beside another.

    Raises:
        ScanError: it lies on another grid.
    """
    if scan.shape != first.shape or not np.allclose(scan.affine, first.affine, atol=1e-2):
        raise ScanError(
            f"it lies on another grid than {first.path.name}: channels are images of one grid",
            path=scan.path,
            remedy="resample it to that grid first",
        )


def with_beside(scan: Scan, others: Sequence[Scan]) -> Scan:
    """The same scan, to be read with others of its grid as further channels.

    Raises:
        ScanError: one of them lies on another grid.
    """
    for other in others:
        check_one_grid(other, scan)
    return replace(scan, beside=tuple(others))


def in_sets(scans: Sequence[Scan], patterns: Mapping[str, str]) -> tuple[Scan, ...]:
    """Scans that belong together, as channels: the first of each set, with the others beside it.

    Scans belong together that lie in one folder and whose names match the patterns with the same text for
    each `*` and `?`: `s1_t1.nii.gz` and `s1_t2.nii.gz` for "*_t1.nii.gz" and "*_t2.nii.gz".

    Args:
        scans: those that match no pattern are left out.
        patterns: channel -> pattern of the names of its files or series folders, that to be first first; none
            leaves the scans as they are.

    Raises:
        UsageError: a scan matches two patterns, two match one, or none matches.
        ScanError: a set is not whole, or its scans lie on several grids.
    """
    if not patterns:
        return tuple(scans)
    made = {name: re.compile(_expression(pattern)) for name, pattern in patterns.items()}
    sets: dict[tuple[Path, tuple[str, ...]], dict[str, Scan]] = {}
    for scan in scans:
        hits = [(name, hit) for name, rule in made.items() if (hit := rule.fullmatch(scan.path.name))]
        if len(hits) > 1:
            raise UsageError(
                f"'{scan.path.name}' is {hits[0][0]} and {hits[1][0]}", remedy="name channels apart"
            )
        for name, hit in hits:
            one = sets.setdefault((scan.path.parent, hit.groups()), {})
            if name in one:
                raise UsageError(f"two scans are its {name}", path=scan.path.parent, remedy="name one apart")
            one[name] = scan
    if not sets:
        raise UsageError(
            f"no scan matches {', '.join(patterns.values())}", remedy="mend the patterns of the channels"
        )
    whole = []
    for one in sets.values():
        missing = next((name for name in patterns if name not in one), None)
        if missing is not None:
            there = next(iter(one.values()))
            raise ScanError(
                f"has no '{missing}' beside it ({patterns[missing]})", path=there.path, remedy="add it"
            )
        first, *others = (one[name] for name in patterns)
        whole.append(with_beside(first, others))
    return tuple(whole)


def _expression(pattern: str) -> str:
    return "".join({"*": "(.*)", "?": "(.)"}.get(char, re.escape(char)) for char in pattern)
