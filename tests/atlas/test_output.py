"""The tables of figures."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from medrecon.atlas.output import can_write_parquet, write_csv, write_parquet

ROWS = [
    {"scan": "a", "layer": "level1", "psnr": math.inf, "voxels": 7, "roi mae": 0.5},
    {"scan": "b", "layer": "level2", "psnr": np.float64(31.5), "voxels": None, "stride": "2x2x2"},
]


def test_csv_has_every_column_and_leaves_out_what_is_not_finite(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ROWS)
    assert (tmp_path / "rows.csv").read_text("utf-8").splitlines() == [
        "scan,layer,psnr,voxels,roi mae,stride",
        "a,level1,,7,0.5,",
        "b,level2,31.5,,,2x2x2",
    ]


def test_parquet_is_the_same_table_with_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: no Parquet to read")
    write_parquet(tmp_path / "rows.parquet", ROWS)
    read = parquet.read_table(tmp_path / "rows.parquet")
    types = {field.name: str(field.type) for field in read.schema}
    text = dict.fromkeys(("scan", "layer", "stride"), "string")
    assert types == {**text, "psnr": "double", "voxels": "int64", "roi mae": "double"}
    assert read.to_pylist() == [
        {"scan": "a", "layer": "level1", "psnr": None, "voxels": 7, "roi mae": 0.5, "stride": None},
        {"scan": "b", "layer": "level2", "psnr": 31.5, "voxels": None, "roi mae": None, "stride": "2x2x2"},
    ]


def test_a_file_name_that_is_no_unicode_stops_no_table(tmp_path: Path) -> None:
    rows = [{"scan": os.fsdecode(b"M\xfcller"), "voxels": 7}]
    write_csv(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_text("utf-8") == "scan,voxels\nM\\udcfcller,7\n"
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: no Parquet to read")
    write_parquet(tmp_path / "rows.parquet", rows)
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == [
        {"scan": "M\\udcfcller", "voxels": 7}
    ]


def test_parquet_is_not_promised_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not can_write_parquet()
