"""The table that tells which code is which source: for the user alone, outside of what is handed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.io.files.atomic import PRIVATE, write_whole
from medrecon.io.files.names import scan_label, unused
from medrecon.io.files.table import csv_text
from medrecon.io.scan import LeftOut, Scan, ScanError

COLUMNS = ("scan", "path", "description", "series_uid", "volume", "note")


def sources_path(output: str | Path) -> Path:
    """Where the table of an output goes: `OUTPUT.sources.csv`, beside it."""
    output = Path(output).absolute()
    return output.with_name(f"{output.name}.sources.csv")


def write_sources(
    output: str | Path,
    scans: Sequence[Scan],
    *,
    left_out: Sequence[LeftOut] = (),
    refused: Sequence[ScanError] = (),
) -> Path:
    """Write which scan is which, beside an output; the file is its owner's alone (mode 0600).

    One that is there from a run before stays, and this one gets a number.

    Args:
        output: the folder of the results.
        scans: whose names hold no identity.
        left_out: files that are no part of a scan.
        refused: what could not be read.

    Raises:
        OutputError: it cannot be written.
    """
    rows: list[dict[str, Any]] = [
        {
            "scan": scan_label(scan),
            "path": str(scan.path.absolute()),
            "description": scan.description,
            "series_uid": scan.series_uid,
            "volume": scan.volume,
        }
        for scan in scans
    ]
    rows += [{"path": str(item.path.absolute()), "note": f"left out: {item.reason}"} for item in left_out]
    rows += [{"path": str(item.path or ""), "note": f"refused: {item.message}"} for item in refused]
    return _write(unused(sources_path(output)), rows, COLUMNS)


def write_rows(output: str | Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Path:
    """The same for other rows, such as those of a cohort's studies; one that is there is replaced."""
    return _write(sources_path(output), rows, columns)


def _write(place: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Path:
    return write_whole(place, csv_text(rows, columns), mode=PRIVATE)
