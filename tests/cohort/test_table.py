"""One line for each study."""

from __future__ import annotations

import csv
from pathlib import Path

from medrecon.cohort.table import COLUMNS, TABLE, write_table


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
    assert [tuple(row) for row in read] == [COLUMNS, COLUMNS]
    assert [row["study"] for row in read] == ["a", "b"]
    assert read[0]["seconds"] == "1.5"
    assert read[1]["reason"] == 'no "scan", at all'
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    (file, *_) = write_table(tmp_path, [])
    assert file.is_file()
