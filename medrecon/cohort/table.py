"""One line for each study, as CSV and, where pandas and pyarrow are installed, as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medrecon.atlas.output import write_csv, write_parquet
from medrecon.io.publish import publish

TABLE, PARQUET = "results.csv", "results.parquet"

COLUMNS = (
    "study",
    "source",
    "status",
    "kept",
    "scans",
    "failed_scans",
    "results",
    "voxels",
    "seconds",
    "cpu_seconds",
    "network_seconds",
    "tries",
    "worker",
    "gpu",
    "memory_mib",
    "exit_code",
    "reason",
    "remedy",
    "notes",
)
"""`study` is the folder in the output, `source` the input's own name for it, `kept` done by an earlier run;
`gpu` the one that its worker was pinned to, `memory_mib` what the worker held when it was done."""


def write_table(output: Path, rows: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Write the table, whole or not at all.

    Args:
        output: the folder it goes in.
        rows: of each study that ended, in any order.

    Returns:
        The files.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [{name: row.get(name) for name in COLUMNS} for row in rows]
    written = [output / TABLE]
    with publish(written[0], overwrite=True) as part:
        write_csv(part, lines)
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError:
        return written
    with publish(output / PARQUET, overwrite=True) as part:
        write_parquet(part, lines)
    return [*written, output / PARQUET]
