"""The benchmark of feature files at toy size: every row is there, and float32 is what reconstruct makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_latents_measures_each_type_of_each_layer(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "latents.json"
    bundle = str(toy_bundle("slice_autoencoder"))
    benchmark("latents").main([str(scans), "--bundles", bundle, "--layers", "level4", "--json", str(out)])
    told, content = capsys.readouterr().out, json.loads(out.read_text("utf-8"))
    assert "| slice_autoencoder | level4 | int8 |" in told
    rows = {(row["scan"], row["dtype"]): row for row in content["scans"]}
    assert {scan for scan, _ in rows} == {"ct_chest", "ct_said_by_name", "mr_head"}
    assert len(rows) == 9
    assert content["largest_difference"] < 1e-6
    for (scan, dtype), row in rows.items():
        assert row["units"] == ("HU" if scan.startswith("ct") else "")
        assert row["bytes"] > 0
        assert (row["cost"] == 0) == (dtype == "float32")
        assert abs(row["cost"]) < 1
    assert "ct_gap" in content["refused"][0]
