"""A budget becomes epochs, and an overlay that would begin too late begins earlier."""

from __future__ import annotations

import math
from typing import Any

import pytest
from monai.bundle import ConfigParser

from medrecon.errors import UsageError
from medrecon.training.sweep.budget import Budget, adversarial_start, epochs_for


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (19, 19), (40, 20), (400, 20), (1000, 20), (4000, 80)])
def test_short_trainings_get_short_epochs(steps: int, epochs: int) -> None:
    found = epochs_for(steps, ConfigParser({"iterations_per_epoch": 50}))
    assert found["max_epochs"] == epochs
    assert math.prod(found.values()) == steps


@pytest.mark.parametrize("options", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}])
def test_a_budget_is_one_positive_number(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Budget(**options)
    assert Budget(steps=300).words() == "300 steps each"
    assert Budget(minutes=0.5).facts() == {"equal": "time", "steps": None, "minutes": 0.5}


def test_adversarial_terms_take_part_in_a_short_training() -> None:
    late = ConfigParser(
        {"generator_loss": {"start": 2000, "ramp": 500}, "discriminator_loss": {"start": 1500}}
    )
    assert adversarial_start(5000, late) == {}
    assert adversarial_start(1000, late) == {
        "discriminator_loss#start": 300,
        "generator_loss#start": 400,
        "generator_loss#ramp": 100,
    }
    assert adversarial_start(1000, ConfigParser({})) == {}
