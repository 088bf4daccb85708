from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import nn

from medrecon.errors import ModelError
from medrecon.losses import LogTerms, SSIMLoss, WeightedSum

PRED, TARGET = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 1, 4, 4)


def test_sum_and_last_values() -> None:
    loss = WeightedSum({"l1": (2, nn.L1Loss()), "mse": (10.0, nn.MSELoss())})
    assert loss.last == {}
    assert loss(PRED, TARGET).item() == pytest.approx(2 * 0.5 + 10 * 0.25)
    assert loss.last == pytest.approx({"l1": 0.5, "mse": 0.25})
    assert all(type(value) is float for value in loss.last.values())
    loss(TARGET, TARGET)
    assert loss.last == {"l1": 0.0, "mse": 0.0}


def test_a_term_of_weight_zero_is_watched_only() -> None:
    class Careless(nn.Module):
        def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            assert not torch.is_grad_enabled()
            return (pred - target).mean() / 0.0

    pred = PRED.clone().requires_grad_()
    loss = WeightedSum({"l1": (1, nn.L1Loss()), "watched": (0, Careless())})
    value = loss(pred, TARGET)
    value.backward()
    assert value.item() == 0.5
    assert torch.isfinite(pred.grad).all()
    assert loss.last["watched"] == float("inf")


def test_gradient_is_the_weighted_sum_of_gradients() -> None:
    grads = []
    for terms in (
        {"a": (3, nn.L1Loss())},
        {"b": (5, nn.MSELoss())},
        {"a": (3, nn.L1Loss()), "b": (5, nn.MSELoss())},
    ):
        pred = PRED.clone().requires_grad_()
        WeightedSum(terms)(pred, TARGET).backward()
        grads.append(pred.grad)
    torch.testing.assert_close(grads[0] + grads[1], grads[2])


def test_metatensors_and_half_precision() -> None:
    pred = PRED.bfloat16().requires_grad_()
    value = WeightedSum({"ssim": (1, SSIMLoss()), "l1": (1, nn.L1Loss())})(
        MetaTensor(pred), MetaTensor(TARGET)
    )
    assert type(value) is torch.Tensor
    assert value.dtype == torch.float32
    value.backward()
    assert pred.grad.abs().sum() > 0


def test_terms_move_and_switch_with_the_sum() -> None:
    inner = nn.Linear(1, 1)
    loss = WeightedSum({"odd.name": (1, WeightedSum({"inner": (1, inner)}))}).eval()
    assert not inner.training
    loss.to(torch.float64)
    assert inner.weight.dtype == torch.float64


def test_refusals() -> None:
    with pytest.raises(ModelError, match="at least one term"):
        WeightedSum({})
    for weight in (-1, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="the weight of 'l1' is"):
            WeightedSum({"l1": (weight, nn.L1Loss())})
    with pytest.raises(ModelError, match=r"shape \(1, 1, 4, 4\), its target \(1, 1, 4, 1\)"):
        WeightedSum({"l1": (1, nn.L1Loss())})(PRED, TARGET[..., :1])


def test_from_a_bundles_config() -> None:
    parser = ConfigParser(
        {
            "loss": {
                "_target_": "medrecon.losses.WeightedSum",
                "terms": {
                    "l1": [1.0, {"_target_": "torch.nn.L1Loss"}],
                    "ssim": ["@weight", {"_target_": "medrecon.losses.SSIMLoss"}],
                },
            },
            "weight": 0.5,
            "log": {"_target_": "medrecon.losses.LogTerms", "losses": ["@loss"]},
        }
    )
    loss, log = parser.get_parsed_content("loss"), parser.get_parsed_content("log")
    loss(PRED, TARGET)
    assert isinstance(log, LogTerms)
    assert log({"pred": None}) == loss.last
    assert set(loss.last) == {"l1", "ssim"}


def test_a_term_starts_in_its_epoch_and_is_not_computed_before() -> None:
    class Counting(nn.MSELoss):
        calls = 0

        def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            Counting.calls += 1
            return super().forward(pred, target)

    loss = WeightedSum({"l1": (1, nn.L1Loss()), "late": (2, Counting())}, starts={"late": 3})
    for epoch, expected in ((1, 0.5), (2, 0.5), (3, 1.0), (4, 1.0), (2, 0.5)):
        loss.set_epoch(epoch)
        assert loss(PRED, TARGET).item() == pytest.approx(expected)
        assert ("late" in loss.last) == (expected == 1.0), "what does not count is not logged"
    assert Counting.calls == 2
    with pytest.raises(ModelError, match="no term 'never'"):
        WeightedSum({"l1": (1, nn.L1Loss())}, starts={"never": 2})


def test_a_term_that_the_configuration_disables_is_left_out() -> None:
    parser = ConfigParser(
        {
            "weights": None,
            "loss": {
                "_target_": "medrecon.losses.WeightedSum",
                "starts": {"mse": 2},
                "terms": {
                    "l1": [1.0, {"_target_": "torch.nn.L1Loss"}],
                    "mse": [3.0, {"_target_": "torch.nn.MSELoss", "_disabled_": "$@weights is None"}],
                },
            },
        }
    )
    loss = parser.get_parsed_content("loss")
    loss.set_epoch(2)
    loss(PRED, TARGET)
    assert set(loss.last) == {"l1"}
