"""A moving average of a network's weights: smoother than the weights of the last step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn

from medrecon.errors import ModelError

_MOMENTUM = "average_momentum"
_WARM_UP = 9
"""The average spans no more than a ninth of the steps so far (Abadi et al. 2016: (1 + n) / (10 + n))."""


class WeightAverage:
    """An exponential moving average of weights (Polyak and Juditsky 1992), by ignite's `EMAHandler`.

    Its momentum follows from the number of the step alone, so that a resumed run goes on exactly. Buffers are
    those of the network itself.

    Args:
        network: what is trained, distributed or not.
        steps: over how many steps the average reaches back; 0 for none.

    Attributes:
        network: the average, in evaluation mode; what is trained itself, where there is none.
    """

    def __init__(self, network: nn.Module, steps: int) -> None:
        self._handler = EMAHandler(network, momentum=1 / steps) if steps > 1 else None
        self.network: nn.Module = network if self._handler is None else self._handler.ema_model

    def attach(self, trainer: Engine) -> None:
        """Follow each step of a trainer."""
        if self._handler is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self._pace)
            self._handler.attach(trainer, _MOMENTUM, warn_if_exists=False)

    def _pace(self, engine: Engine) -> None:
        least = self._handler.momentum if self._handler is not None else 0.0
        momentum = max(least, _WARM_UP / (_WARM_UP + engine.state.iteration))
        setattr(engine.state, _MOMENTUM, momentum)

    def state_dict(self) -> dict[str, Any]:
        """The average's weights; nothing where there is none."""
        return {} if self._handler is None else dict(self.network.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ModelError: it was written with an average and this run has none, or the other way round.
        """
        if bool(state) != (self._handler is not None):
            raise ModelError(
                f"the checkpoint was written {'with' if state else 'without'} an average of the weights",
                remedy="resume with the same average_steps",
            )
        if self._handler is not None:
            self.network.load_state_dict(state)
