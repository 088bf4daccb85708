"""Which scans are of one patient: DICOM says it; for other files the user does. It is never guessed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from medrecon.atlas.summary import patient_numbers
from medrecon.errors import UsageError
from medrecon.io.files.names import scan_label
from medrecon.io.scan import Scan, ScanError

_COLUMNS = ("scan", "patient")


def patients_of(scans: Sequence[Scan], root: Path, said: str | None) -> list[int]:
    """The patient of each scan, counted from 0 in the order met.

    Args:
        scans: the cohort.
        root: the folder that they were found in.
        said: a table (CSV with the columns scan and patient: a path within the folder, a file's name or a
            scan's key), or a pattern such as "sub-*", which a folder or file name of each scan matches; None:
            what DICOM's PatientID says.

    Raises:
        UsageError: neither a table nor a pattern.
        ScanError: the table cannot be read or contradicts itself, or the patient of a scan is not known.
    """
    if said is None:
        numbers: Mapping[str, object] = patient_numbers(scans)
    elif Path(said).is_file():
        numbers = _by_table(scans, root, Path(said))
    elif "*" in said or "?" in said:
        numbers = {scan.key: _by_pattern(scan, root, said) for scan in scans}
    else:
        raise UsageError(
            f"--patients '{said}' is no file and no pattern",
            remedy="name a CSV file with the columns scan and patient, or a pattern such as 'sub-*'",
        )
    unknown = [scan for scan in scans if numbers.get(scan.key) is None]
    if unknown:
        remedy = (
            "name a CSV file with the columns scan and patient by --patients, or a pattern such as 'sub-*'"
        )
        raise ScanError(
            f"{len(unknown)} of {len(scans)} scans do not say whose they are: {scan_label(unknown[0])} ...",
            path=root,
            remedy=remedy if said is None else f"complete {said}",
        )
    order = list(dict.fromkeys(numbers[scan.key] for scan in scans))
    return [order.index(numbers[scan.key]) for scan in scans]


def _inside(scan: Scan, root: Path) -> Path:
    """The scan's path within the folder that was searched; its name where that was the scan itself."""
    try:
        inner = scan.path.absolute().relative_to(root.absolute())
    except ValueError:
        inner = Path()
    return inner if inner.parts else Path(scan.path.name)


def _by_pattern(scan: Scan, root: Path, pattern: str) -> str | None:
    """The part of the path that matches; of a file name that begins so, what stands before the first "_"."""
    for part in _inside(scan, root).parts:
        for name in (part, part.split("_")[0].split(".")[0]):
            if fnmatchcase(name, pattern):
                return name.split("_")[0].split(".")[0]
    return None


def _by_table(scans: Sequence[Scan], root: Path, table: Path) -> dict[str, str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise ScanError(f"cannot be read: {error}", path=table, remedy="give a CSV file in UTF-8") from error
    if not rows or any(name not in rows[0] for name in _COLUMNS):
        raise ScanError(
            "has no columns scan and patient", path=table, remedy="write `scan,patient` into its first line"
        )
    said: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        scan, patient = ((row[name] or "").strip() for name in _COLUMNS)
        if not scan or not patient:
            raise ScanError(f"line {number} leaves scan or patient empty", path=table, remedy="fill it in")
        if said.setdefault(scan, patient) != patient:
            raise ScanError(f"line {number} gives a scan a second patient", path=table, remedy="keep one")
    found: dict[str, str] = {}
    for scan in scans:
        names = (scan.key, _inside(scan, root).as_posix(), scan.path.name)
        given = list(dict.fromkeys(said[name] for name in names if name in said))
        if len(given) > 1:
            raise ScanError(
                f"gives {scan_label(scan)} several patients, by its key, path and name",
                path=table,
                remedy="keep one, and name scans by their paths where file names repeat",
            )
        if given:
            found[scan.key] = given[0]
    return found
