"""Figures of many scans and results as one table, on disk as it grows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.errors import OutputError
from medrecon.io.files.atomic import write_whole
from medrecon.io.files.table import csv_text

COLUMNS = (
    "scan",
    "modality",
    "result",
    "values_per_voxel",
    "psnr",
    "ssim",
    "mae",
    "rmse",
    "bias",
    "max_error",
    "sharpness",
    "units",
    "low",
    "high",
    "voxels",
)
"""Columns of metrics.csv; `low` and `high` are the ends of the range that PSNR and SSIM refer to."""


class FidelityTable:
    """Rows of figures, kept in metrics.json and metrics.csv; after each addition both are replaced whole.

    Rows are mappings with the names of `COLUMNS`. What JSON and CSV cannot hold (an infinite PSNR, where
    nothing was lost) is null in the one and empty in the other.

    Args:
        folder: where both files go; made when missing.
        facts: what the JSON says of the run besides: model, version, hash of the weights.
        overwrite: replace the tables of a run before.

    Raises:
        OutputError: the folder holds a table already, or cannot be written.
    """

    def __init__(
        self, folder: str | Path, facts: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> None:
        self.json = Path(folder) / "metrics.json"
        self.csv = Path(folder) / "metrics.csv"
        self.facts = dict(facts or {})
        self.rows: list[dict[str, Any]] = []
        for path in (self.json, self.csv):
            if path.exists() and not overwrite:
                raise OutputError(
                    "exists already", path=path, remedy="choose another output or pass --overwrite true"
                )

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in the rows of one scan and write the table.

        Raises:
            OutputError: it cannot be written; what was there before stays.
        """
        self.rows.extend(dict(row) for row in rows)
        content = {**self.facts, "results": self.rows, "summary": self.summary()}
        write_whole(self.json, json.dumps(content, indent=2, allow_nan=False) + "\n")
        write_whole(self.csv, csv_text(self.rows, COLUMNS))

    def summary(self) -> list[dict[str, Any]]:
        """For each result: number of scans, and mean and worst of the PSNR (dB) and SSIM that are finite."""
        found = []
        for result in dict.fromkeys(row["result"] for row in self.rows):
            rows = [row for row in self.rows if row["result"] == result]
            line: dict[str, Any] = {"result": result, "scans": len(rows)}
            for measure in ("psnr", "ssim"):
                values = [row[measure] for row in rows if row[measure] is not None]
                line[f"{measure}_mean"] = sum(values) / len(values) if values else None
                line[f"{measure}_worst"] = min(values, default=None)
            found.append(line)
        return found
