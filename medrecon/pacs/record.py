"""Which folder of a local copy is which series: for the user alone, beside the copy."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from medrecon.io.files.sources import sources_path, write_rows
from medrecon.pacs.pulling import Pulled

_COLUMNS = ("folder", "node", "study_uid", "series_uid", "description", "instances")


def write_record(output: Path, node: str, pulled: Iterable[Pulled]) -> Path:
    """Add series to `OUTPUT.sources.csv` (mode 0600), which names those of earlier runs too.

    Raises:
        OutputError: it cannot be written.
    """
    rows = _rows(sources_path(output))
    for each in pulled:
        folder = each.path.relative_to(output).as_posix()
        rows[folder] = {
            "folder": folder,
            "node": node,
            "study_uid": each.series.study,
            "series_uid": each.series.uid,
            "description": each.series.description,
            "instances": str(each.instances),
        }
    return write_rows(output, rows.values(), _COLUMNS)


def _rows(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["folder"]: {name: row[name] for name in _COLUMNS} for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}
