"""One line for each study."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from medrecon.cohort.table import COLUMNS, PARQUET, TABLE, write_table

DONE: dict[str, Any] = {
    "study": "study_1",
    "status": "done",
    "kept": True,
    "scans": 2,
    "failed_scans": 0,
    "results": 4,
    "voxels": (1 << 53) + 1,
    "seconds": 1.5,
    "cpu_seconds": 2,
    "network_seconds": 0.25,
    "tries": 1,
    "worker": "node:17",
    "gpu": "",
    "memory_mib": 812.5,
    "notes": "Müller | two",
}
FAILED: dict[str, Any] = {
    "study": "study_2",
    "status": "failed",
    "kept": False,
    "tries": 3,
    "exit_code": 3,
    "reason": 'no "scan", at all',
    "remedy": "look",
    "seconds": math.nan,
}


def test_rows_have_the_same_columns_and_replace_those_before(tmp_path: Path) -> None:
    write_table(tmp_path, [{"study": "old"}])
    rows = [
        {"study": "a", "status": "done", "seconds": 1.5, "unknown": 1},
        {"study": "b", "status": "failed", "reason": 'no "scan", at all'},
    ]
    files = write_table(tmp_path, rows)
    assert files[0] == tmp_path / TABLE
    with files[0].open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [tuple(row) for row in read] == [tuple(COLUMNS)] * 2
    assert [row["study"] for row in read] == ["a", "b"]
    assert read[0]["seconds"] == "1.5"
    assert read[1]["reason"] == 'no "scan", at all'
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    (file, *_) = write_table(tmp_path, [])
    assert file.is_file()


@pytest.mark.parametrize(
    "rows", [[DONE, FAILED], [DONE], [FAILED], []], ids=["both", "done", "failed", "none"]
)
def test_parquet_has_the_same_columns_and_types_whatever_the_rows(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: no Parquet to read")
    files = write_table(tmp_path, rows)
    assert [file.name for file in files] == [TABLE, PARQUET]
    read = parquet.read_table(files[1])
    kinds = {str: "string", int: "int64", float: "double", bool: "bool"}
    assert {field.name: str(field.type) for field in read.schema} == {
        name: kinds[kind] for name, kind in COLUMNS.items()
    }
    expected = [{name: row.get(name) for name in COLUMNS} for row in rows]
    for row in expected:
        if row["status"] == "failed":
            row["seconds"] = None  # neither table has NaN
    assert read.to_pylist() == expected


def test_a_table_without_pyarrow_is_csv_and_no_older_parquet_stays_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PARQUET).write_bytes(b"of an earlier run")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert write_table(tmp_path, [DONE, FAILED]) == [tmp_path / TABLE]
    assert [path.name for path in tmp_path.iterdir()] == [TABLE]
