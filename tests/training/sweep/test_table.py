"""The table says what is best at each cost, and nothing that JSON and CSV cannot hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from medrecon.training.sweep.table import mark_fronts, pareto, write_table


def row(name: str, parameters: int, seconds: float, psnr: float | None) -> dict[str, Any]:
    figures = {"psnr": psnr, "ssim": 0.9, "ms_ssim": 0.95, "perceptual": None}
    return {
        "variant": name,
        "knobs": {"width": parameters},
        "parameters": parameters,
        "steps": 10,
        "train_seconds": seconds,
        "inference_seconds": 0.1,
        "held_out": figures,
        "training": figures,
        "gap_db": None,
    }


def test_the_front_holds_what_nothing_beats() -> None:
    assert pareto([(1, 20.0), (2, 25.0), (3, 24.0), (2, 23.0)]) == [True, True, False, False]
    assert pareto([(1, 20.0), (1, 20.0)]) == [True, True], "equals do not beat each other"
    assert pareto([]) == []
    assert pareto([(1.0, 20.0), (1.05, 20.0)], 0.1) == [True, True], "no verdict from the noise of timing"
    assert pareto([(1.0, 20.0), (1.05, 21.0)], 0.1) == [False, True]
    assert pareto([(1.0, 20.0), (1.3, 20.0)], 0.1) == [True, False]


def test_rows_are_marked_and_written(tmp_path: Path) -> None:
    rows = [row("a", 100, 9.0, 20.0), row("b", 200, 5.0, 25.0), row("c", 300, 7.0, None)]
    mark_fronts(rows)
    assert [r["pareto"]["parameters"] for r in rows] == [True, True, True]
    assert [r["pareto"]["training"] for r in rows] == [False, True, True]
    written = write_table(tmp_path / "new", {"layer": "relu3_3"}, rows)
    assert [path.name for path in written] == ["sweep.json", "sweep.csv"]
    assert json.loads(written[0].read_text())["variants"][2]["held_out"]["psnr"] is None
    lines = list(csv.DictReader(written[1].read_text().splitlines()))
    assert lines[1]["width"] == "200"
    assert lines[1]["held_out_psnr"] == "25.0"
    assert (lines[2]["held_out_psnr"], lines[2]["pareto_training"]) == ("", "True")
    write_table(tmp_path / "new", {}, rows[:1])
    assert len((tmp_path / "new" / "sweep.csv").read_text().splitlines()) == 2
