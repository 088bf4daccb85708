"""Minimise one objective by L-BFGS or Adam, stop when it has converged, and give back the best image seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medrecon.errors import ModelError, in_short, is_networks_own

OPTIMISERS = ("lbfgs", "adam")

Objective = Callable[[], tuple[torch.Tensor, torch.Tensor]]
"""The loss at the parameters' present values, and the image that it is the loss of."""


@dataclass(frozen=True)
class Budget:
    """How long to go on, and how.

    Attributes:
        optimiser: "lbfgs" (strong Wolfe conditions) or "adam" (its rate falls to nothing by the last step).
        steps: most evaluations of the objective and its gradient.
        rate: Adam's learning rate; L-BFGS finds its own.
        history: past steps from which L-BFGS knows the curvature.
        tolerance: it has converged when the loss fell by less than this share of itself, over the last
        window: steps.
    """

    optimiser: str
    steps: int
    rate: float
    history: int
    tolerance: float
    window: int


@dataclass
class Minimum:
    """The best that was seen.

    Attributes:
        image: (1, C, *shape), or None where no loss was a finite number.
        loss: its loss.
        steps: evaluations that were made.
        converged: whether the loss had stopped to fall.
        diverged: whether a loss or gradient that is no number ended it.
    """

    image: torch.Tensor | None = None
    loss: float = math.inf
    steps: int = 0
    converged: bool = False
    diverged: bool = False


class _Stop(Exception):
    """Leaves torch's L-BFGS, whose line search asks for the objective as often as it likes."""


class _Watched:
    """The objective as an optimiser sees it: each evaluation is counted, compared and kept if it is best."""

    def __init__(
        self,
        objective: Objective,
        parameters: Sequence[nn.Parameter],
        budget: Budget,
        tick: Callable[[int], None],
    ) -> None:
        self.objective, self.parameters, self.budget, self.tick = objective, parameters, budget, tick
        self.best = Minimum()
        self.history: list[float] = []

    def __call__(self) -> torch.Tensor:
        best = self.best
        if best.steps >= self.budget.steps:
            raise _Stop
        self.tick(best.steps)
        best.steps += 1
        loss, image = self.objective()
        gradients = _gradients(loss, self.parameters)
        value = float(loss.detach())
        if not all(math.isfinite(float(number.detach().sum())) for number in (loss, *gradients)):
            best.diverged = True
            raise _Stop
        if value < best.loss:
            best.loss, best.image = value, image.detach().clone()
        self.history.append(best.loss)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        window = self.budget.window
        if len(self.history) > window:
            before = self.history[-1 - window]
            if before - best.loss <= self.budget.tolerance * before:
                best.converged = True
                raise _Stop
        return loss.detach()


def _gradients(loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> tuple[torch.Tensor, ...]:
    """Those of the parameters.

    Raises:
        ModelError: the network cannot be gone back through.
    """
    try:
        # Not `backward`: that would leave gradients in an encoder whose weights can be trained.
        return torch.autograd.grad(loss, parameters)
    except RuntimeError as error:
        if not is_networks_own(error):
            raise
        raise ModelError(
            f"the network's gradients cannot be computed ({in_short(error)})",
            remedy="name a shallower layer",
        ) from error


def minimise(
    objective: Objective,
    parameters: Sequence[nn.Parameter],
    budget: Budget,
    tick: Callable[[int], None] = lambda done: None,
) -> Minimum:
    """Change the parameters until the objective has converged, or its budget is spent.

    Args:
        objective: see `Objective`; it needs gradients to be enabled.
        parameters: what may change.
        budget: how, and how long.
        tick: called with the number of steps done, before each.

    Returns:
        The best image of all that were evaluated, those of the line search too.
    """
    watched = _Watched(objective, parameters, budget, tick)
    try:
        if budget.optimiser == "adam":
            _adam(watched, parameters, budget)
        while True:
            before = watched.best.steps
            lbfgs = torch.optim.LBFGS(
                parameters,
                max_iter=budget.steps,
                max_eval=2 * budget.steps,
                history_size=budget.history,
                tolerance_grad=0,
                tolerance_change=0,
                line_search_fn="strong_wolfe",
            )
            lbfgs.step(watched)  # returns before `_Stop` only where its direction leads no further
            if watched.best.steps - before <= 1:
                watched.best.converged = True
                break
    except _Stop:
        pass
    return watched.best


def _adam(watched: _Watched, parameters: Sequence[nn.Parameter], budget: Budget) -> None:
    """Go on until `_Stop`; the rate falls by a half cosine."""
    adam = torch.optim.Adam(parameters, lr=budget.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, budget.steps)
    while True:
        watched()
        adam.step()
        schedule.step()
