"""What a run says of where its weights come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine

from medrecon.io import Scan
from medrecon.training.provenance import UNKNOWN, Provenance


def scan(name: str, **facts: Any) -> dict[str, Any]:
    path = Path("/data") / name
    options: dict[str, Any] = {"shape": (4, 5, 6), "affine": np.diag([1.0, 1, 2.5, 1]), "key": "ab12cd34"}
    return {"image": Scan(path, "nifti", (path,), description=name, **{**options, **facts})}


def run(provenance: Provenance, figures: list[float]) -> None:
    """A training of one step and one validation an epoch."""
    trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    provenance.attach(trainer, evaluator)
    for epoch, figure in enumerate(figures, start=1):
        evaluator.state.metrics = {"psnr": figure}
        evaluator.state.epoch = epoch
        provenance._note(evaluator)
    trainer.run([0], max_epochs=len(figures))


def test_data_licences_figures_and_recipe_are_said(caplog: pytest.LogCaptureFixture) -> None:
    items = [scan("ct_a.nii.gz", modality="CT"), scan("mr_b.nii.gz")]
    made = Provenance(items, [scan("mr_c.nii.gz")], 0.25, {"ct_*": "CC BY 4.0", "mr_c*": "MIT"})
    with caplog.at_level("WARNING", "medrecon"):
        run(made, [30.0, 31.5])
    assert "licence of 1 scan(s) is unknown" in caplog.text
    assert "such as scan_" in caplog.text
    recipe = {"seed": 3, "dataset_dir": "/scans/doe", "_meta_": {}, "imports": []}
    said = made.described(recipe | {"held_out": ["doe*", "roe*"], "again": {"names": ["doe*"], "doe*": 1}})
    assert json.loads(json.dumps(said)) == said
    assert [each["licence"] for each in said["data"]["scans"]] == ["CC BY 4.0", UNKNOWN]
    assert [each["licence"] for each in said["data"]["validation_scans"]] == ["MIT"]
    assert said["data"]["scans"][0]["spacing_mm"] == [1.0, 1.0, 2.5]
    assert said["data"]["generated_share"] == 0.25
    assert said["figures"] == [{"epoch": 1, "psnr": 30.0}, {"epoch": 2, "psnr": 31.5}]
    hidden = {"names": ["(a pattern)"], "(a pattern)": 1}
    assert said["recipe"] == {"seed": 3, "held_out": "2 pattern(s)", "again": hidden}
    assert said["time"]["steps"] == 2
    assert made.summary().startswith("2 scan(s), 25% of the samples generated")


def test_it_goes_on_after_a_resume() -> None:
    before = Provenance([])
    run(before, [30.0])
    state = before.state_dict()
    state["seconds"] = 100.0
    after = Provenance([])
    after.load_state_dict(state)
    run(after, [31.0])
    assert after.seconds > 100
    assert [figure["psnr"] for figure in after.state_dict()["figures"]] == [30.0, 31.0]
    assert [figure["psnr"] for figure in before.state_dict()["figures"]] == [30.0]


def test_generated_volumes_alone_are_said() -> None:
    assert Provenance([], phantom_share=1.0).summary().startswith("generated volumes alone")
