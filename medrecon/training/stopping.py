"""An end to a training that has stopped getting better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

_log = logging.getLogger("medrecon")


class StopEarly:
    """End a training once validations bring no better figure, by ignite's `EarlyStopping`.

    The run ends as any other: with its checkpoint, `model.pt` and its bundle. The count is kept in
    checkpoints; a run that was stopped and is resumed stays stopped.

    Args:
        patience: validations in a row that may be no better than the best one; 0 for no end.
        metric: the figure, higher is better.
    """

    def __init__(self, patience: int, metric: str) -> None:
        self.patience = int(patience)
        self.metric = metric
        self._rule: EarlyStopping | None = None

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Listen to a validation, and end a training."""
        if self.patience < 1:
            return
        self._rule = EarlyStopping(self.patience, self._score, trainer)
        evaluator.add_event_handler(Events.COMPLETED, self._rule)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._end)
        trainer.add_event_handler(Events.TERMINATE, self._say)

    def _score(self, engine: Engine) -> float:
        return float(engine.state.metrics[self.metric])

    def _end(self, engine: Engine) -> None:
        if self._rule is not None and self._rule.counter >= self.patience:
            engine.state.epoch -= 1  # this one does not take place
            engine.terminate()

    def _say(self, engine: Engine) -> None:
        _log.info("ended early: %d validations brought no better %s", self.patience, self.metric)

    def state_dict(self) -> dict[str, Any]:
        """The best figure and how many validations ago it was; nothing where there is no end."""
        return {} if self._rule is None else dict(self._rule.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting; a run that did not count before begins to."""
        if self._rule is not None and state:
            self._rule.load_state_dict(state)
