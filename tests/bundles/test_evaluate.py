"""evaluate.yaml: figures of each scan and result beside two controls, alone or after inference.yaml."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecon.evaluation import dct_code, fidelity
from medrecon.evaluation.table import COLUMNS
from medrecon.io import find_scans, read_scan

from .names import DIMS, LONG, NAMES, VERSIONS, MakeBundle, RunConfig, Scans, Workflow

RESULTS = ["input", "level1", "level2", "level3", "level4", "level5", "dct"]


def evaluate(made: Any, folder: Path) -> dict[str, Any]:
    made.run()
    return json.loads((folder / "metrics.json").read_text())


@LONG
def test_each_scan_and_result_beside_its_controls(
    name: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, run_config: RunConfig
) -> None:
    """The command on top of the file, from another directory."""
    bundle = small_bundle(name)
    options = {"dataset_dir": "scans", "output_dir": "out"}
    run_config(bundle / "configs" / "evaluate.yaml", tmp_path, options)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["metrics.csv", "metrics.json"]
    table = json.loads((out / "metrics.json").read_text())
    assert (table["model"], table["version"]) == (name, VERSIONS[name])
    weights = (bundle / "models" / "model.pt").read_bytes()
    assert table["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    rows = table["results"]
    sources = {scan.key: scan for scan in find_scans(scans["folder"]).scans}
    assert [(row["scan"][-8:], row["result"]) for row in rows] == [(k, r) for k in sources for r in RESULTS]
    for row in rows:
        source = sources[row["scan"][-8:]]
        values = read_scan(source)
        if row["result"] in ("input", "level1"):
            assert (row["mae"], row["psnr"], row["ssim"]) == (0, None, 1), row
        if row["result"] == "dct":
            block = 16 if DIMS[name] == 3 else (16, 16, 1)
            control = np.rint(dct_code(np.maximum(values, -1024), 1 / 16, block))
            expected = fidelity(values, control, units=source.units).psnr
            assert row["psnr"] == pytest.approx(expected, abs=1e-2)  # rounding may fall either way
        assert row["modality"] == source.modality
        assert row["units"] == source.units
        assert row["voxels"] == values.size
    rates = {row["result"]: row["values_per_voxel"] for row in rows}
    assert rates == {
        "input": None,
        "level1": 1,
        "level2": 1 / 2,
        "level3": 3 / 16,
        "level4": 1 / 16,
        "level5": 1 / 64,
        "dct": 1 / 16,
    }
    with (out / "metrics.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert list(read[0]) == list(COLUMNS)
    for line, row in zip(read, rows, strict=True):
        assert line == {key: "" if row[key] is None else str(row[key]) for key in COLUMNS}
    (level4,) = [line for line in table["summary"] if line["result"] == "level4"]
    worst = min(row["psnr"] for row in rows if row["result"] == "level4")
    assert (level4["scans"], level4["psnr_worst"]) == (2, worst)


@pytest.mark.parametrize("name", NAMES)
def test_merged_after_inference_it_is_the_same(
    name: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, workflow: Workflow
) -> None:
    bundle = small_bundle(name)
    options = {"dataset_dir": str(scans["folder"]), "layers": ["level2"], "device": "cpu"}
    found = []
    for number, configs in enumerate([("evaluate.yaml",), ("inference.yaml", "evaluate.yaml")]):
        folder = tmp_path / f"out{number}"
        made = workflow(bundle, *configs, kind="inference", output_dir=str(folder), **options)
        assert made.check_properties() == []
        found.append(evaluate(made, folder))
        assert len(list(folder.iterdir())) == 2, "no reconstruction is written"
    assert found[0] == found[1]
    assert [row["result"] for row in found[0]["results"]] == ["level2", "dct"] * 2


def test_a_table_of_a_run_before_is_not_replaced(
    tmp_path: Path, scans: Scans, small_bundle: MakeBundle, workflow: Workflow
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_text("mine")
    options = {
        "dataset_dir": str(scans["folder"] / "mr.nii.gz"),
        "output_dir": str(out),
        "layers": ["input"],
        "device": "cpu",
    }
    bundle = small_bundle(NAMES[0])
    with pytest.raises(RuntimeError):
        workflow(bundle, "evaluate.yaml", kind="inference", **options).run()
    assert (out / "metrics.json").read_text() == "mine"
    table = evaluate(workflow(bundle, "evaluate.yaml", kind="inference", overwrite=True, **options), out)
    assert len(table["results"]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_ct_can_be_said_to_be(
    name: str, tmp_path: Path, scans: Scans, small_bundle: MakeBundle, workflow: Workflow
) -> None:
    options = {"dataset_dir": str(scans["folder"]), "layers": ["level1"], "controls": {}, "device": "cpu"}
    made = workflow(
        small_bundle(name),
        "evaluate.yaml",
        kind="inference",
        output_dir=str(tmp_path / "out"),
        hu=["m?.nii.gz"],
        **options,
    )
    rows = evaluate(made, tmp_path / "out")["results"]
    assert [(row["modality"], row["units"], row["low"], row["high"]) for row in rows] == [
        ("CT", "HU", -1024, 3071)
    ] * 2
