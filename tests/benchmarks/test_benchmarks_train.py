"""The benchmarks that train run at toy size, within their budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch


def result(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


TRAINING = [
    "--held-out",
    "mr_*",
    "--hu",
    "ct_*",
    "--patch",
    "16",
    "16",
    "--batch",
    "1",
    "--crop",
    "16",
    "16",
    "4",
]


@pytest.fixture
def readable(scans: Path) -> Path:
    """The scans without the one that is refused: that case has its own test."""
    for file in (scans / "ct_gap").iterdir():
        file.unlink()
    return scans


@pytest.mark.slow
def test_subset_vs_single_trains_with_the_same_steps(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], readable: Path, tmp_path: Path
) -> None:
    out, bundle = tmp_path / "subset.json", toy_bundle("slice_autoencoder")
    arguments = [str(readable), "--bundle", str(bundle), *TRAINING, "--json", str(out)]
    script = benchmark("subset_vs_single")
    script.main([*arguments, "--steps", "11"])
    content = result(out)
    assert content["scans"] == ["mr_head"]
    assert [note.split(" steps")[0] for note in content["notes"].values()] == ["11", "11", "2"]
    assert all(np.isfinite(values).all() for values in content["psnr"].values())
    assert list(content["gap_db"]) == [f"any subset - {name}" for name in list(content["psnr"])[1:]]

    before = (bundle / "models" / "model.pt").read_bytes()
    script.main([*arguments, "--weights", str(bundle / "models" / "model.pt"), "--minutes", "0.002"])
    content = result(out)
    assert content["notes"]["any subset"] == "the given weights"
    ours = ["any subset", "any subset, trained on"]
    single = ["level3 alone, decoder", "level3 alone, encoder and decoder"]
    assert list(content["psnr"]) == [*ours, *single]
    assert list(content["gap_db"]) == [f"{a} - {b}" for a in ours for b in single]
    assert (bundle / "models" / "model.pt").read_bytes() == before


def test_training_data_compares_scans_with_phantoms(
    benchmark: Callable[[str], ModuleType],
    toy_bundle: Callable[[str], Path],
    readable: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, out, shares = benchmark("training_data"), tmp_path / "data.json", []
    real = script.train

    def train(
        bundle: str, scans: Path, held_out: list[str], overrides: dict[str, Any], **options: Any
    ) -> Any:
        shares.append(overrides["phantom_share"])
        small = {"patch_size": [16, 16], "batch_size": 1, "fit_patches": 3, "phantom_count": 50}
        return real(bundle, scans, held_out, {**small, **overrides}, **options)

    monkeypatch.setattr(script, "train", train)
    bundle = toy_bundle("slice_autoencoder")
    weights = bundle / "models" / "model.pt"
    words = [str(readable), "--bundle", str(bundle), "--held-out", "mr_head*", "--crop", "16", "16", "4"]
    script.main([*words, "--steps", "3", "--weights", str(weights), "--levels", "level4", "--json", str(out)])
    content = result(out)
    assert shares == [0.0, 0.3, 1.0]
    assert list(content["psnr"]) == ["scans alone", "30% phantoms", "phantoms alone", str(weights)]
    found = [values["level4"] for values in content["psnr"].values()]
    assert np.isfinite(found).all()
    assert content["scans"] == ["mr_head"]
    assert found[0] != found[2], "they were trained on other data"


@pytest.mark.slow
def test_baselines_train_for_the_same_time(
    benchmark: Callable[[str], ModuleType], toy_bundle: Callable[[str], Path], readable: Path, tmp_path: Path
) -> None:
    out, bundle = tmp_path / "baselines.json", toy_bundle("slice_autoencoder")
    arguments = [str(readable), "--bundle", str(bundle), *TRAINING, "--json", str(out), "--minutes", "0.002"]
    benchmark("baselines").main(arguments)
    content = result(out)
    assert list(content["psnr"])[-1] == "linear control"
    assert len(content["facts"]) == 3
    assert all(fact["steps"] >= 3 and fact["seconds"] >= 0.12 for fact in content["facts"].values())
    assert {fact["values_per_voxel"] for fact in content["facts"].values()} == {1 / 16}


def test_a_budget_ends_with_no_learning_rate_left(benchmark: Callable[[str], ModuleType]) -> None:
    from ignite.engine import Engine

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    rates: list[float] = []
    trainer = Engine(lambda engine, batch: rates.append(optimizer.param_groups[0]["lr"]))
    budget = benchmark("short_training").Budget(optimizer, steps=100)
    budget.attach(trainer)
    trainer.run(range(1000), max_epochs=5)
    assert len(rates) == budget.spent == 100
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates[-1] < 0.001
