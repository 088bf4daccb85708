"""The average of the weights: what it is, and that a checkpoint keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn

from medrecon.errors import ModelError
from medrecon.training.averaging import WeightAverage
from medrecon.training.checkpoints import keep_checkpoints

from ..tiny_trainer import trainer_of


class Masked(nn.Module):
    """A network with the kinds of buffers that ours have."""

    masks: torch.Tensor
    basis: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 1, 1)
        self.register_buffer("masks", torch.tensor([True, False]))
        self.register_buffer("basis", torch.ones(2), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image)


def small(network: nn.Module, epochs: int) -> SupervisedTrainer:
    return trainer_of(network, epochs, [torch.rand(1, 1, 4, 4)] * 3, rate=0.3)


def test_it_averages_the_weights_of_the_steps() -> None:
    network = Masked()
    average, trainer = WeightAverage(network, 3), small(network, 4)
    average.attach(trainer)
    expected = network.conv.weight.detach().clone()

    @trainer.on(Events.ITERATION_COMPLETED)
    def follow(engine: Engine) -> None:
        momentum = max(1 / 3, 9 / (9 + engine.state.iteration))
        expected.mul_(1 - momentum).add_(network.conv.weight.detach(), alpha=momentum)

    trainer.run()
    kept: Any = average.network
    torch.testing.assert_close(kept.conv.weight, expected)
    assert not torch.equal(kept.conv.weight, network.conv.weight)
    assert not kept.training
    assert not any(parameter.requires_grad for parameter in kept.parameters())


def test_buffers_are_those_of_the_network() -> None:
    network = Masked()
    average, trainer = WeightAverage(network, 10), small(network, 1)
    average.attach(trainer)
    network.masks.copy_(torch.tensor([False, True]))  # fitted after the average was made
    trainer.run()
    kept: Any = average.network
    assert kept.masks.dtype == torch.bool
    assert kept.masks.tolist() == [False, True]
    assert kept.basis.data_ptr() == network.basis.data_ptr(), "they take no memory of their own"


@pytest.mark.parametrize("steps", [0, 5])
def test_it_goes_on_from_a_checkpoint_to_the_last_bit(steps: int, tmp_path: Path) -> None:
    ended = []
    for folder, parts in (("straight", [5]), ("cut", [2, 5])):
        for epochs in parts:
            network = Masked()
            average, trainer = WeightAverage(network, steps), small(network, epochs)
            average.attach(trainer)
            kept = {"network": network, "average": average}
            trainer.add_event_handler(
                Events.EPOCH_STARTED, lambda engine: torch.manual_seed(engine.state.epoch)
            )
            keep_checkpoints(trainer, average.network, tmp_path / folder, kept, resume=True)
            trainer.run()
        ended.append({**average.network.state_dict(), "online": network.conv.weight.detach()})
    assert all(torch.equal(ended[0][key], ended[1][key]) for key in ended[0])
    written = torch.load(tmp_path / "cut" / "model.pt", weights_only=True)
    assert torch.equal(written["conv.weight"], average.network.state_dict()["conv.weight"].half())


def test_without_steps_it_is_the_network_itself() -> None:
    network = Masked()
    assert WeightAverage(network, 0).network is network
    assert WeightAverage(network, 0).state_dict() == {}


@pytest.mark.parametrize(("before", "now"), [(5, 0), (0, 5)])
def test_a_resume_with_other_averaging_is_refused(before: int, now: int) -> None:
    state = WeightAverage(Masked(), before).state_dict()
    with pytest.raises(ModelError, match="average_steps"):
        WeightAverage(Masked(), now).load_state_dict(state)
