"""One line for each study, as CSV and, where pyarrow is installed, as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medrecon.atlas.output import can_write_parquet, write_parquet
from medrecon.io.files.atomic import write_whole
from medrecon.io.files.publish import publish
from medrecon.io.files.table import csv_text

TABLE, PARQUET = "results.csv", "results.parquet"

COLUMNS: dict[str, type] = {
    "study": str,
    "status": str,
    "kept": bool,
    "scans": int,
    "failed_scans": int,
    "results": int,
    "voxels": int,
    "seconds": float,
    "cpu_seconds": float,
    "network_seconds": float,
    "tries": int,
    "worker": str,
    "gpu": str,
    "memory_mib": float,
    "exit_code": int,
    "reason": str,
    "remedy": str,
    "notes": str,
}
"""Name -> type; a value may be missing. `study` is the folder in the output, `kept` done by an earlier run;
`gpu` the one that its worker was pinned to, `memory_mib` what the worker held when it was done."""

SOURCES = ("study", "source", "path")
"""What `OUTPUT.sources.csv` has of each study: the input's own name for it, and where it is."""


def write_table(output: Path, rows: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Write the table, whole or not at all; no Parquet file of an earlier run stays beside a newer CSV.

    Args:
        output: the folder it goes in.
        rows: of each study that ended, in any order.

    Returns:
        The files.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [{name: row.get(name) for name in COLUMNS} for row in rows]
    table, parquet = output / TABLE, output / PARQUET
    write_whole(table, csv_text(lines, list(COLUMNS)))
    if not can_write_parquet():
        parquet.unlink(missing_ok=True)
        return [table]
    with publish(parquet, overwrite=True) as part:
        write_parquet(part, lines, COLUMNS)
    return [table, parquet]
