"""A training that gets no better ends early, whole, and stays ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn

from medrecon.training.checkpoints import keep_checkpoints
from medrecon.training.data import image_is_target
from medrecon.training.stopping import StopEarly

FIGURES = [20.0, 21.0, 20.5, 21.0, 22.0, 21.0, 21.5, 21.9, 30.0]


def run(folder: Path, patience: int, epochs: int = 8) -> tuple[int, list[int]]:
    """The epoch that it ended in, and those that took place."""
    network = nn.Conv2d(1, 1, 1)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": torch.ones(1, 1, 2, 2)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        prepare_batch=image_is_target,
    )
    evaluator, done = Engine(lambda *_: None), []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        done.append(engine.state.epoch)
        evaluator.state.metrics["psnr"] = FIGURES[engine.state.epoch - 1]
        evaluator.fire_event(Events.COMPLETED)

    stopping = StopEarly(patience, "psnr")
    stopping.attach(trainer, evaluator)
    keep_checkpoints(trainer, network, folder, {"network": network, "stopping": stopping}, resume=True)
    trainer.run()
    return trainer.state.epoch, done


@pytest.mark.parametrize(("patience", "last"), [(0, 8), (1, 3), (2, 4), (3, 8), (4, 8)])
def test_it_ends_after_so_many_validations_in_vain(patience: int, last: int, tmp_path: Path) -> None:
    assert run(tmp_path, patience) == (last, list(range(1, last + 1)))
    assert (tmp_path / "model.pt").is_file()
    assert (tmp_path / f"checkpoint_epoch={last}.pt").is_file()


def test_what_was_ended_stays_ended(tmp_path: Path) -> None:
    run(tmp_path, 2)
    before = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").unlink()  # killed between the checkpoint and the end
    assert run(tmp_path, 2) == (4, [])
    assert (tmp_path / "model.pt").read_bytes() == before


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_count_goes_on_after_a_resume(cut: int, tmp_path: Path) -> None:
    run(tmp_path, 2, epochs=cut)
    assert run(tmp_path, 2) == (4, list(range(cut + 1, 5)))
