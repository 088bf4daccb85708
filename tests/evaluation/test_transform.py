"""The transform that compares a prediction with its source, and the controls beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medrecon.errors import UsageError
from medrecon.evaluation import FidelityTable, ScoreReconstructiond, dct_code, fidelity

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


def item(source: np.ndarray, *results: np.ndarray, units: str = "HU") -> dict[str, Any]:
    meta = {"units": units, "modality": "CT", "scan_key": "0123abcd"}
    pred = MetaTensor(torch.from_numpy(np.stack(results)), affine=torch.from_numpy(AFFINE), meta=meta)
    return {"pred": pred, "source": torch.from_numpy(source)[None]}


def ct() -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 300, (33, 20, 18)).round().astype(np.int16)
    values[:3] = -3024  # padding outside the field of view
    return values


def test_each_channel_is_a_result(tmp_path: Path) -> None:
    source = ct()
    blurred = (source * 0.9).astype(np.float32)
    table = FidelityTable(tmp_path)
    score = ScoreReconstructiond(
        table=table, results=["input", "level4"], rates={"level4": 0.0625}, labels={"0123abcd": "chest"}
    )
    out = score(item(source, source.astype(np.float32), blurred))
    assert out["fidelity"] == table.rows
    first, second = table.rows
    assert (first["scan"], first["modality"], first["result"]) == ("chest", "CT", "input")
    assert (first["mae"], first["psnr"], first["values_per_voxel"]) == (0, None, None)
    expected = fidelity(source, np.rint(blurred), units="HU", spacing=(0.5, 0.5, 3.0)).to_dict()
    assert (second["low"], second["high"]) == tuple(expected.pop("data_range"))
    assert {key: second[key] for key in expected} == expected
    assert second["values_per_voxel"] == 0.0625


def test_results_are_rounded_as_they_are_when_written(tmp_path: Path) -> None:
    source = ct()
    near = source + np.float32(0.4)
    for values, mae in ((source, 0.0), (source.astype(np.float32), 0.4)):
        table = FidelityTable(tmp_path, overwrite=True)
        ScoreReconstructiond(table=table, results=["level1"])(item(values, near))
        assert table.rows[0]["mae"] == pytest.approx(mae, abs=0.05)


@pytest.mark.parametrize(("units", "floor"), [("HU", -1024), ("", -3024)])
def test_the_control_gets_what_a_network_gets(units: str, floor: int, tmp_path: Path) -> None:
    source = ct()
    table = FidelityTable(tmp_path)
    controls = {"dct": {"values_per_voxel": 0.25, "block": 8}, "slices": {"block": [16, 16, 1]}}
    score = ScoreReconstructiond(table=table, results=["input"], controls=controls)
    score(item(source, source.astype(np.float32), units=units))
    assert [(r["result"], r["values_per_voxel"]) for r in table.rows] == [
        ("input", None),
        ("dct", 0.25),
        ("slices", 0.0625),
    ]
    expected = fidelity(source, np.rint(dct_code(np.maximum(source, floor), 0.25, 8)), units=units)
    assert table.rows[1]["psnr"] == pytest.approx(expected.psnr, abs=0.01)


def test_a_channel_without_a_name_is_refused(tmp_path: Path) -> None:
    source = ct()
    score = ScoreReconstructiond(table=FidelityTable(tmp_path), results=["level3", "level4"])
    with pytest.raises(UsageError, match="1 channels for 2 results"):
        score(item(source, source.astype(np.float32)))
