"""What a training is, and what is refused before it is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medrecon.compute.safe_path import RUN_MODULE
from medrecon.errors import ModelError, OutputError, UsageError
from medrecon.io.files.lock import held
from medrecon.training.launch.job import Training, plan_training


@pytest.fixture
def bundle(repo: Path) -> Path:
    """One that comes along."""
    return repo / "bundles" / "slice_autoencoder"


def plan(bundle: Path, run: Path, **options: Any) -> Training:
    return plan_training(bundle, run, Path("scans"), **options)


def test_settings_are_a_file_after_all_others(bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made = plan(bundle, run, held_out=["a b*"], overlays=["adversarial.yaml"], settings={"max_epochs": 7})
    assert made.epochs == 7
    assert [file.name for file in made.files] == ["train.yaml", "adversarial.yaml", "settings.json"]
    assert json.loads((run / "settings.json").read_text()) == {
        "max_epochs": 7,
        "dataset_dir": str(Path("scans").absolute()),
        "output_dir": str(run),
        "held_out": ["a b*"],
        "resume": True,
        "overlays": ["adversarial.yaml"],
        "processes": 1,
    }
    assert "torch.distributed.run" not in made.command()
    assert not made.done
    assert made.epoch == 0
    for epoch in (9, 10):
        (run / f"checkpoint_epoch={epoch}.pt").touch()
    assert made.epoch == 10


def test_several_processes_are_joined_by_torchrun(bundle: Path, tmp_path: Path) -> None:
    made = plan(bundle, tmp_path / "run", processes=2, nodes=3)
    words = made.command("--rdzv-backend=c10d")
    assert words[3:] == [
        str(RUN_MODULE), "torch.distributed.run", "--rdzv-backend=c10d", "--nnodes=3", "--nproc-per-node=2",
        str(RUN_MODULE), "medrecon.training.launch.process", "run", "--config_file",
        repr([str(file) for file in made.files]),
    ]  # fmt: skip
    assert [file.name for file in made.files] == ["train.yaml", "multi_gpu.yaml", "settings.json"]


def test_a_run_goes_on_as_it_was_begun(bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plan(bundle, run, settings={"seed": 1})
    (run / "checkpoint_epoch=1.pt").touch()
    plan_training(bundle, run, tmp_path, settings={"seed": 1})  # the scans have moved
    with pytest.raises(OutputError, match="other overlays and processes and seed"):
        plan(bundle, run, settings={"seed": 2}, processes=2)
    with pytest.raises(OutputError, match="other held_out"):
        plan(bundle, run, settings={"seed": 1}, held_out=["x"])
    (run / "settings.json").write_text("{")
    with pytest.raises(OutputError, match="cannot be read"):
        plan(bundle, run)


def test_refusals(bundle: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"--set max_epoch: .*did you mean 'max_epochs'"):
        plan(bundle, tmp_path / "run", settings={"max_epoch": 1})
    with pytest.raises(UsageError, match="take for code"):
        plan(bundle, tmp_path / "run", held_out=["$exit()"])
    with pytest.raises(ModelError, match="lacks this file"):
        plan(tiny_bundle, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        plan(bundle, tmp_path / "file")
    with pytest.raises(OutputError, match="holds something else"):
        plan(bundle, tmp_path)


def test_two_do_not_train_in_one_folder(bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "new" / "run"
    with held(run):
        plan(bundle, run)
        (run / "checkpoint_epoch=1.pt").touch()
        with pytest.raises(OutputError, match="another run is writing it"), held(run):
            pass
    with held(run):
        plan(bundle, run)
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    assert (run / "checkpoint_epoch=1.pt").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), held(tmp_path / "file" / "run"):
        pass
