"""Scans for training, their mixture, random streams, checkpoints: what exact resume rests on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandGaussianNoised
from torch import nn

from medrecon.errors import ModelError
from medrecon.phantoms import PhantomDataset
from medrecon.training.checkpoints import SaveWhole, keep_checkpoints
from medrecon.training.data import (
    ClipGradients,
    LeaveLayersOut,
    SeedEachEpoch,
    image_is_target,
    mixture_weights,
    training_items,
    validation_items,
)

from ..tiny_trainer import trainer_of


@pytest.fixture
def folder(tmp_path: Path, make_ct: Callable[..., np.ndarray], make_nifti: Callable[..., np.ndarray]) -> Path:
    """Two series and two NIfTI files."""
    make_ct(tmp_path / "scans" / "chest_one")
    make_ct(tmp_path / "scans" / "chest_two", description="Other", seed=1)
    make_nifti(tmp_path / "scans" / "mr_head.nii.gz")
    make_nifti(tmp_path / "scans" / "mr_spine.nii.gz", (36, 32, 20), seed=1)
    return tmp_path / "scans"


def names(items: list[dict[str, Any]]) -> list[str]:
    return sorted(item["image"].path.name for item in items)


def test_held_out_scans_are_left_out(folder: Path) -> None:
    everything = ["chest_one", "chest_two", "mr_head.nii.gz", "mr_spine.nii.gz"]
    assert names(training_items(folder)) == everything
    assert names(training_items(folder, ["chest_*"])) == everything[2:]
    assert names(training_items(folder, ["chest_one", "mr_?ead*"])) == ["chest_two", "mr_spine.nii.gz"]


@pytest.mark.parametrize("pattern", ["mr_haed*", "chest", "scans", "CHEST_ONE"])
def test_a_pattern_that_matches_nothing_is_refused(folder: Path, pattern: str) -> None:
    with pytest.raises(ModelError, match="nothing matches the held-out") as refused:
        training_items(folder, ["mr_head*", pattern])
    assert pattern in str(refused.value)


def test_generated_volumes_alone_need_no_scan(tmp_path: Path) -> None:
    assert training_items(tmp_path / "nothing here", ["typo"], phantom_share=1.0) == []


def test_scans_are_named_for_validation(folder: Path) -> None:
    assert names(validation_items(folder, ["mr_h*", "chest_one"])) == ["chest_one", "mr_head.nii.gz"]
    assert validation_items(folder / "nothing here") == []
    with pytest.raises(ModelError, match="nothing matches"):
        validation_items(folder, ["mr_haed*"])


def test_something_must_be_left(folder: Path) -> None:
    with pytest.raises(ModelError, match="no scan is left"):
        training_items(folder, ["*"])


def test_a_refused_scan_is_said_and_may_be_held_out(
    folder: Path, make_ct: Callable[..., np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    make_ct(folder / "gap", description="Gap", seed=2, leave_out=3)
    with caplog.at_level("WARNING", "medrecon"):
        items = training_items(folder, ["gap"])
    assert len(items) == 4
    assert "not used for training" in caplog.text
    assert "gap" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_mixture_is_as_asked(folder: Path, share: float) -> None:
    items = training_items(folder)
    weights = np.array(mixture_weights(items, 10, share))
    assert len(weights) == len(items) + 10
    assert weights.sum() == pytest.approx(1)
    assert weights[len(items) :].sum() == pytest.approx(share)
    assert np.ptp(weights[len(items) :]) == 0
    if share < 1:
        size = {item["image"].path.name: weights[k] for k, item in enumerate(items)}
        assert size["mr_spine.nii.gz"] / size["mr_head.nii.gz"] == pytest.approx(8**0.5)


def test_without_phantoms_there_are_only_scans(folder: Path) -> None:
    assert len(mixture_weights(training_items(folder), 0, 0.0)) == 4


def test_layers_are_left_out_by_weight() -> None:
    asked: list[tuple[str, ...]] = []

    def network(image: torch.Tensor, layers: tuple[str, ...]) -> torch.Tensor:
        asked.append(layers)
        return image

    torch.manual_seed(0)
    inferer = LeaveLayersOut({"level4": 3, "level2+level4": 1, "level1": 0})
    for _ in range(400):
        inferer(torch.zeros(1), network)
    assert set(asked) == {("level4",), ("level2", "level4")}
    assert asked.count(("level4",)) / 400 == pytest.approx(0.75, abs=0.06)


def draws(epoch: int, seed: int = 7) -> tuple[list[float], torch.Tensor, np.ndarray]:
    """What the three kinds of stream give in an epoch, whatever was drawn before."""
    noise = Compose([RandGaussianNoised(keys="image", prob=1.0)])
    phantoms = PhantomDataset(3, (8, 8, 8), seed=1)
    engine = Engine(lambda *_: None)
    SeedEachEpoch(seed, [noise, phantoms]).attach(engine)
    engine.state.epoch = epoch
    torch.rand(int(torch.randint(1, 50, ())))
    engine.fire_event(Events.EPOCH_STARTED)
    noisy = noise({"image": np.zeros((1, 4, 4), np.float32)})["image"]
    return torch.rand(3).tolist(), phantoms[1]["image"].as_tensor(), np.asarray(noisy)


def test_every_stream_depends_on_seed_and_epoch_alone() -> None:
    first, again, later = draws(3), draws(3), draws(4)
    for one, same, other in zip(first, again, later, strict=True):
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)
    assert draws(3, seed=8)[0] != first[0]


def test_prepare_batch_makes_the_image_its_own_target() -> None:
    for channels in (1, 2):
        batch = {"image": torch.rand(1, channels, 2, 2)}
        image, target = image_is_target(batch, torch.device("cpu"))
        assert image is batch["image"]
        assert target.shape == (1, 1, 2, 2)
        assert target.data_ptr() == image.data_ptr(), "the first channel, not copied"


def small(network: nn.Module, epochs: int, **options: Any) -> SupervisedTrainer:
    return trainer_of(network, epochs, [torch.ones(1, 1, 4, 4)] * 2, rate=0.1, **options)


def test_gradients_are_clipped_and_broken_ones_refused() -> None:
    network = nn.Conv2d(1, 1, 1)
    norms: list[float] = []
    trainer = small(network, 1, train_handlers=[ClipGradients(network, 0.25)])

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine: Engine) -> None:
        norms.append(float(sum(p.grad.square().sum() for p in network.parameters()) ** 0.5))

    with torch.no_grad():
        network.weight.fill_(1000.0)
    trainer.run()
    assert norms == pytest.approx([0.25, 0.25])

    before = network.weight.detach().clone()
    network.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match="gradients of iteration 1 are not finite"):
        small(network, 1, train_handlers=[ClipGradients(network, 0.25)]).run()
    assert torch.equal(network.weight, before), "no weight was spoiled"


def test_checkpoints_the_two_newest_are_kept_and_the_weights_are_halved(tmp_path: Path) -> None:
    network = nn.Conv2d(1, 2, 3, padding=1)
    trainer = small(nn.Sequential(network, nn.Conv2d(2, 1, 1)), 4)
    parts = {"network": network, "trainer": trainer}
    SaveWhole(tmp_path / "new" / "run", parts, network).attach(trainer)
    trainer.run()
    files = sorted(path.name for path in (tmp_path / "new" / "run").iterdir())
    assert files == ["checkpoint_epoch=3.pt", "checkpoint_epoch=4.pt", "model.pt"]
    weights = torch.load(tmp_path / "new" / "run" / "model.pt", weights_only=True)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert torch.equal(weights["weight"], network.weight.detach().half())


def test_a_new_run_over_an_old_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_epoch=90.pt").touch()
    network = nn.Conv2d(1, 1, 1)
    with pytest.raises(ModelError, match="checkpoints of a run before") as refused:
        keep_checkpoints(small(network, 1), network, tmp_path, {"network": network})
    assert "--resume true" in str(refused.value)


def test_the_newest_checkpoint_is_taken_by_number_not_by_name(tmp_path: Path) -> None:
    network = nn.Conv2d(1, 1, 1)
    run = small(network, 11)
    keep_checkpoints(run, network, tmp_path, {"network": network})
    run.run()
    files = sorted(path.name for path in tmp_path.glob("check*"))
    assert files == ["checkpoint_epoch=10.pt", "checkpoint_epoch=11.pt"]
    (tmp_path / "checkpoint_epoch=9.pt").write_bytes(b"broken")  # by name it would come last
    other = nn.Conv2d(1, 1, 1)
    resumed = small(other, 12)
    keep_checkpoints(resumed, other, tmp_path, {"network": other}, resume=True)
    epochs: list[int] = []
    resumed.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))
    resumed.run()
    assert epochs == [12]


KILLED = """
import sys, time, torch, threading, os
from pathlib import Path
from torch import nn
sys.path.insert(0, sys.argv[2])
save = torch.save
def slow(content, target, **options):
    # what a full disk or a slow one looks like from outside: half of the file is there, and more to come
    save(content, target, **options)
    if content["trainer"]["epoch_length"] and started[0] == 2:
        target.truncate(200); target.flush()
        Path(sys.argv[1], "half").touch()
        time.sleep(60)
torch.save = slow
started = [0]
from monai.engines import SupervisedTrainer
from ignite.engine import Events
from medrecon.training.checkpoints import keep_checkpoints
from medrecon.training.data import image_is_target
network = nn.Conv2d(1, 1, 1)
nn.init.ones_(network.weight)
trainer = SupervisedTrainer(device=torch.device("cpu"), max_epochs=3, train_data_loader=[{"image": torch.ones(1, 1, 4, 4)}],
    network=network, optimizer=torch.optim.SGD(network.parameters(), lr=0.1), loss_function=nn.MSELoss(),
    prepare_batch=image_is_target)
trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: started.__setitem__(0, e.state.epoch))
keep_checkpoints(trainer, network, sys.argv[1], {"network": network})
trainer.run()
"""  # noqa: E501


def test_an_unfinished_checkpoint_of_a_run_before_is_removed(tmp_path: Path) -> None:
    """ignite leaves one where it is killed, or where the disk is full."""
    kept = ("tmp_mine.txt", "tmpABCDEFGH", "tmp12345678.pt", "checkpoint.pt")
    for name in ("tmpvho6g2tr", "tmp_a1b2c3d", *kept):
        (tmp_path / name).write_bytes(b"cut")
    (tmp_path / "tmp00000000").mkdir()
    network = nn.Conv2d(1, 1, 1)
    keep_checkpoints(small(network, 1), network, tmp_path, {"network": network})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "tmp00000000"])


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_older_checkpoint(tmp_path: Path, repo: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, run, repo], env=environment)
    deadline = time.monotonic() + 120
    while not (run / "half").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert (run / "half").exists(), "it was not killed while writing"
    assert [path.name for path in run.glob("checkpoint*")] == ["checkpoint_epoch=1.pt"]
    network = nn.Conv2d(1, 1, 1)
    trainer = small(network, 2)
    keep_checkpoints(trainer, network, run, {"network": network}, resume=True)
    epochs: list[int] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))
    trainer.run()
    assert epochs == [2]
    assert sorted(path.name for path in run.glob("*.pt")) == [
        "checkpoint_epoch=1.pt",
        "checkpoint_epoch=2.pt",
        "model.pt",
    ]
