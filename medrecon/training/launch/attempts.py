"""Starts a training, and starts it again from its last checkpoint when it dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from medrecon.errors import MedreconError
from medrecon.training.launch.cause import empty_folder, forget, read_cause
from medrecon.training.launch.job import Training


class Runner(Protocol):
    """Runs a training once, here or elsewhere."""

    def run(self, training: Training, tick: Callable[[], None]) -> str:
        """Start it and wait for its end.

        Args:
            training: what is run; its words go to its log.
            tick: called about once a second.

        Returns:
            How it ended, in words; what it made says whether it ended well.
        """


@dataclass(frozen=True)
class Launched:
    """What became of a training.

    Attributes:
        attempts: how often it was started.
        begun: the epoch from which the first of them went on.
        seconds: wall time.
    """

    attempts: int
    begun: int
    seconds: float


def launch(
    training: Training,
    runner: Runner,
    *,
    restarts: int = 3,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: None,
) -> Launched:
    """Run a training to its end.

    What dies without a reason of its own (a killed process, a lost machine, a time limit) is started again
    from the last checkpoint. Only attempts in a row that bring no new checkpoint count as `restarts`.

    Args:
        training: as `plan_training` made it.
        runner: where it runs.
        restarts: how often in vain.
        tick: called about once a second.
        say: called with a line when it is started again.

    Raises:
        MedreconError: why it cannot be trained.
    """
    start, begun, attempts, vain = time.perf_counter(), training.epoch, 0, 0
    while not training.done:
        before = training.epoch
        attempts += 1
        empty_folder(training.errors)
        try:
            ended = runner.run(training, tick)
            error = None if training.done else read_cause(training.errors, training.log)
        finally:
            forget(training.errors)
        if training.done:
            break
        if error is not None:
            raise error
        vain = vain + 1 if training.epoch == before else 0
        if vain > restarts:
            raise MedreconError(
                f"the training died {vain} times in a row without a new checkpoint: {ended}",
                path=training.log,
                remedy="look at its end; the same command goes on from the last checkpoint",
            )
        say(f"{ended}; started again from epoch {training.epoch}")
    training.seal()
    return Launched(attempts, begun, time.perf_counter() - start)
