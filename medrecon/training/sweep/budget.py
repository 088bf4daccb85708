"""How long each variant of a sweep trains, and what that means in epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigParser

from medrecon.errors import UsageError

FEWEST_EPOCHS = 20
"""The learning rate is set, and a checkpoint written, once an epoch: short trainings get short epochs."""


@dataclass(frozen=True)
class Budget:
    """The same for each variant: a number of steps, or of minutes.

    Attributes:
        steps: optimiser steps, or None.
        minutes: of training time, or None.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("a budget is either steps or minutes", remedy="give --steps or --minutes")
        if (self.steps or self.minutes or 0) <= 0:
            raise UsageError("the budget must be positive", remedy="give --steps or --minutes above 0")

    def words(self) -> str:
        """What is equal for all: "300 steps each"."""
        return f"{self.steps} steps each" if self.steps else f"{self.minutes:g} min of training each"

    def facts(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {"equal": "steps" if self.steps else "time", "steps": self.steps, "minutes": self.minutes}


def epochs_for(steps: int, config: ConfigParser) -> dict[str, int]:
    """The ids of train.yaml that make a training of so many steps, rounded to whole epochs."""
    per_epoch = max(1, min(int(config["iterations_per_epoch"]), steps // FEWEST_EPOCHS))
    return {"iterations_per_epoch": per_epoch, "max_epochs": max(1, round(steps / per_epoch))}


def adversarial_start(steps: int, config: ConfigParser) -> dict[str, int]:
    """When the adversarial terms of an overlay begin; in a short training earlier than it says.

    An overlay that waits for more than half of the steps would hardly take part: the discriminator then
    learns from 30 % of the steps on, and counts from 40 % on, in full from half.
    """
    ids: Mapping[str, float] = {
        "discriminator_loss#start": 0.3,
        "generator_loss#start": 0.4,
        "generator_loss#ramp": 0.1,
    }
    if any(name not in config for name in ids):
        return {}
    if int(config["generator_loss#start"]) + int(config["generator_loss#ramp"]) <= steps / 2:
        return {}
    return {name: int(share * steps) for name, share in ids.items()}
