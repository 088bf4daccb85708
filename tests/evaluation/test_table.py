"""The table on disk: whole after each scan, readable by anything, never over another one."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from medrecon.errors import OutputError
from medrecon.evaluation import FidelityTable
from medrecon.evaluation.table import COLUMNS


def row(scan: str, result: str, psnr: float | None = 40.0, ssim: float = 0.9) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS, 1) | {"scan": scan, "result": result, "psnr": psnr, "ssim": ssim}


def test_it_grows_scan_by_scan(tmp_path: Path) -> None:
    table = FidelityTable(tmp_path / "new" / "folder", {"model": "m"})
    assert not (tmp_path / "new").exists(), "nothing is written before there is something to write"
    for number, scan in enumerate("abc", start=1):
        table.add([row(scan, "input", None), row(scan, "level4", 30.0 + number)])
        content = json.loads(table.json.read_text())
        assert content["model"] == "m"
        assert len(content["results"]) == 2 * number
        with table.csv.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert [line["result"] for line in lines] == ["input", "level4"] * number
        assert {line["psnr"] for line in lines if line["result"] == "input"} == {""}
    assert sorted(path.name for path in table.json.parent.iterdir()) == ["metrics.csv", "metrics.json"]


def test_the_summary_leaves_out_what_is_infinite(tmp_path: Path) -> None:
    table = FidelityTable(tmp_path)
    table.add([row("a", "input", None), row("a", "level4", 30.0, 0.5), row("b", "level4", 40.0, 0.7)])
    assert table.summary() == [
        {
            "result": "input",
            "scans": 1,
            "psnr_mean": None,
            "psnr_worst": None,
            "ssim_mean": 0.9,
            "ssim_worst": 0.9,
        },
        {
            "result": "level4",
            "scans": 2,
            "psnr_mean": 35.0,
            "psnr_worst": 30.0,
            "ssim_mean": pytest.approx(0.6),
            "ssim_worst": 0.5,
        },
    ]


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv"])
def test_another_table_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        FidelityTable(tmp_path)
    FidelityTable(tmp_path, overwrite=True).add([row("a", "input")])
    assert (tmp_path / name).read_text() != "mine"


def test_a_failing_disk_leaves_the_table_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = FidelityTable(tmp_path)
    table.add([row("a", "level4")])
    before = table.json.read_text()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        table.add([row("b", "level4")])
    assert table.json.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]


def test_it_is_replaced_in_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = FidelityTable(tmp_path)
    table.add([row("a", "level4")])
    before = table.json.read_text()

    def killed(self: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(OutputError, match="Input/output error"):
        table.add([row("b", "level4")])
    assert table.json.read_text() == before


def test_what_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        FidelityTable(tmp_path).add([row("a", "level4", float("nan"))])
    assert not any(tmp_path.iterdir())
