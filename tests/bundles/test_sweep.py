"""A sweep of a real bundle, run small: it trains, resumes exactly, measures, and its variants are bundles."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecon.bundle.config import Bundle
from medrecon.cli.app import main
from medrecon.errors import OutputError
from medrecon.training.sweep.budget import Budget
from medrecon.training.sweep.train import Trainer
from medrecon.training.sweep.variants import Variant, plan_variants

from .names import MakeBundle, Scans

NAME = "slice_transform_code"
FIXED = {"batch_size": 1, "patch_size": [16, 16], "iterations_per_epoch": 4, "fit_patches": 3}


class Killed(Exception):
    """Stands for the end of a process in the middle of an epoch."""


@pytest.fixture
def bundle(small_bundle: MakeBundle, import_path: None) -> Path:
    return small_bundle(NAME)


@pytest.fixture
def trainer(bundle: Path, scans: Scans) -> Callable[..., Trainer]:
    settings = {"dataset_dir": str(scans["folder"]), "held_out": ["mr*"], "device": torch.device("cpu")}
    return lambda **budget: Trainer(bundle, settings, Budget(**(budget or {"steps": 6})))


@pytest.fixture
def variant(bundle: Path) -> Variant:
    return plan_variants(bundle, layer="level4", depths=[2], fixed=FIXED)[0]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "models" / "model.pt", weights_only=True)
    return state


@pytest.mark.slow
def test_a_killed_training_ends_as_an_undisturbed_one(
    tmp_path: Path, trainer: Callable[..., Trainer], variant: Variant
) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    steps: list[tuple[int, int]] = []
    plan = trainer().plan(variant, straight)
    assert (plan["steps"], plan["epochs"]["max_epochs"]) == (6, 6)
    trainer().train(variant, straight, plan, lambda done, of: steps.append((done, of)))
    assert steps == [(done, 6) for done in range(1, 7)]

    def kill(done: int, of: int) -> None:
        if done == 4:
            raise Killed

    first = trainer()
    with pytest.raises(RuntimeError):
        first.train(variant, cut, first.plan(variant, cut), kill)
    assert (cut / "checkpoint_epoch=3.pt").is_file()
    torch.rand(5)
    again = trainer()
    steps.clear()
    seconds = again.train(variant, cut, again.plan(variant, cut), lambda done, of: steps.append((done, of)))
    assert steps == [(4, 6), (5, 6), (6, 6)]
    assert seconds == pytest.approx(sum(json.loads((cut / "times.json").read_text())), abs=0.01)
    assert len(json.loads((cut / "times.json").read_text())) == 6
    one, other = weights(straight), weights(cut)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not list(cut.glob("checkpoint*")), "they are not needed any more"
    network: Any = Bundle.open(cut, {"device": "cpu"}).build("network")
    assert len(network.inversion.fine) == 2


def test_what_is_done_is_not_done_again_and_not_mixed(
    tmp_path: Path, trainer: Callable[..., Trainer], variant: Variant
) -> None:
    run, made = tmp_path / "run", trainer()
    made.train(variant, run, made.plan(variant, run))
    before = weights(run)

    def never(done: int, of: int) -> None:
        raise Killed

    assert made.train(variant, run, made.plan(variant, run), never) > 0
    assert all(torch.equal(before[key], value) for key, value in weights(run).items())
    with pytest.raises(OutputError, match="a training with other budget"):
        trainer(steps=7).plan(variant, run)
    other = Variant(variant.name, variant.knobs, {**variant.overrides, "batch_size": 2})
    with pytest.raises(OutputError, match="a training with other overrides"):
        made.plan(other, run)
    with (made.root / "configs" / "train.yaml").open("a") as stream:
        stream.write("edited: true\n")
    with pytest.raises(OutputError, match="a training with other configuration"):
        made.plan(variant, run)


def test_minutes_become_steps_once(
    tmp_path: Path, trainer: Callable[..., Trainer], variant: Variant, bundle: Path
) -> None:
    made = trainer(minutes=0.05)
    plan = made.plan(variant, tmp_path / "run")
    assert plan["steps"] >= 1
    assert plan["budget"] == {"equal": "time", "steps": None, "minutes": 0.05}
    assert trainer(minutes=0.05).plan(variant, tmp_path / "run") == plan, "timed once, for each resume too"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["variant.json"]
    assert trainer(steps=3).plan(variant, tmp_path / "run")["steps"] == 3, "nothing was trained yet"


def run_sweep(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *map(str, arguments), "--device", "cpu"])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize(
    "recipes", [("gentle",), pytest.param(("pixel", "gentle"), marks=pytest.mark.slow)], ids=",".join
)
def test_the_command(
    recipes: tuple[str, ...],
    tmp_path: Path,
    bundle: Path,
    scans: Scans,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    (bundle / "configs" / "gentle.yaml").write_text("learning_rate: 0.0001\n")
    words = [
        scans["folder"], out, "--bundle", bundle, "--layer", "level3", "--widths", "2,8",
        "--recipes", ",".join(recipes), "--steps", 4, "--held-out", "mr*", "--slices", 2,
        "--set", "batch_size=1", "--set", "patch_size=[16,16]", "--set", "fit_patches=3",
    ]  # fmt: skip
    code, said, err = run_sweep(capsys, *words, "--json")
    assert (code, err) == (0, "")
    data = json.loads(said)
    names = [f"{recipe}_width{width}" for recipe in recipes for width in (2, 8)]
    assert [row["variant"] for row in data["variants"]] == names
    assert data["budget"] == {"equal": "steps", "steps": 4, "minutes": None}
    small, large = data["variants"][:2]
    assert 0 < small["parameters"] < large["parameters"]
    assert small["steps"] == 4
    assert small["held_out"]["psnr"] > 5
    assert small["training"]["psnr"] - small["held_out"]["psnr"] == pytest.approx(small["gap_db"])
    assert [len(small["scans"][part]) for part in ("held_out", "training")] == [1, 1]
    assert small["scans"]["training"][0]["units"] == "HU"
    front = [row["knobs"]["width"] for row in data["variants"] if row["pareto"]["parameters"]]
    assert 2 in front, "nothing is smaller"
    assert small["held_out"]["perceptual"] is None
    stored = json.loads((out / "sweep.json").read_text())
    assert stored["variants"] == data["variants"]
    lines = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert [(line["recipe"], line["width"]) for line in lines][:2] == [(recipes[0], "2"), (recipes[0], "8")]
    assert {Path(file).suffix for file in data["files"]} == {".json", ".csv", ".png", ".svg"}
    assert len([file for file in data["files"] if "slice_" in file]) == 1
    for file in data["files"]:
        assert Path(file).stat().st_size > 0
    assert "Doe" not in json.dumps(stored)

    before = (out / "variants" / names[0] / "models" / "model.pt").stat().st_mtime_ns
    code, said, err = run_sweep(capsys, *words)
    assert code == 0
    assert (out / "variants" / names[0] / "models" / "model.pt").stat().st_mtime_ns == before
    assert "4 steps each" in said
    assert f"{len(names)}/{len(names)} gentle_width8" in err
    code, _, err = run_sweep(capsys, *words, "--set", "learning_rate=0.1")
    assert code == 5
    assert err.count("\n") <= 2
    assert "other overrides" in err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--layer", "level3", "--widths", "4"], 2, "no scan is held out"),
        (["--layer", "level9", "--widths", "4", "--held-out", "mr*"], 4, "no layer 'level9'"),
        (["--layer", "level3", "--widths", "x", "--held-out", "mr*"], 2, "--widths x"),
        (["--layer", "level3,level4", "--widths", "4", "--held-out", "mr*"], 2, "several results"),
        (["--layer", "level3", "--recipes", "nice", "--held-out", "mr*"], 4, "no recipe 'nice'"),
        (
            ["--layer", "level3", "--depths", "1", "--held-out", "mr*", "--encoder-weights", "f"],
            2,
            "its own encoder",
        ),
        (["--layer", "level3", "--depths", "1", "--held-out", "mt*"], 2, "nothing matches --held-out mt*"),
    ],
)
def test_mistakes_are_told_in_a_line(
    options: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    bundle: Path,
    scans: Scans,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    ended, _, err = run_sweep(capsys, scans["folder"], out, "--bundle", bundle, *options)
    assert (ended, err.count("\n")) == (code, 1)
    assert said in err
    assert not out.exists()


def test_a_frozen_encoder_needs_its_weights(
    repo: Path, tmp_path: Path, scans: Scans, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", repo / "bundles" / "frozen_encoder_inversion", "--layer", "relu3_3", "--depths", 1]
    code, _, err = run_sweep(capsys, scans["folder"], tmp_path / "out", *words, "--held-out", "mr*")
    assert (code, err.count("\n")) == (4, 1)
    assert "--encoder-weights" in err
