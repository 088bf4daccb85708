"""The learning rate of a training that can be made longer."""

import functools

import pytest
import torch

from medrecon.training.schedule import warm_hold_decay


def shares(epochs: int, warm_up: int, decay: int) -> list[float]:
    plan = functools.partial(warm_hold_decay, max_epochs=epochs, warm_up=warm_up, decay=decay)
    return [plan(epoch) for epoch in range(epochs)]


def test_it_rises_holds_and_falls() -> None:
    assert shares(10, 3, 2) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1, 2 / 3, 1 / 3])


def test_a_short_training_still_learns() -> None:
    assert shares(1, 4, 1) == [0.2]
    assert all(share > 0 for epochs in range(1, 30) for share in shares(epochs, 4, max(1, epochs // 10)))


def test_after_its_end_nothing_is_learned() -> None:
    assert warm_hold_decay(10, max_epochs=10, warm_up=3, decay=2) == 0
    assert warm_hold_decay(99, max_epochs=10, warm_up=3, decay=2) == 0


def test_a_longer_training_goes_on_from_a_checkpoint_as_if_it_had_been_meant() -> None:
    def rates(state: dict[str, object] | None, first: int, last: int, epochs: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        plan = functools.partial(warm_hold_decay, max_epochs=epochs, warm_up=2, decay=2)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, plan)
        if state is not None:
            scheduler.load_state_dict(state)
        found = []
        for _ in range(first, last):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        kept.append(scheduler.state_dict())
        return found

    kept: list[dict[str, object]] = []
    rates(None, 0, 5, 8)
    assert rates(kept[0], 5, 15, 16) == pytest.approx(rates(None, 0, 15, 16)[5:])
