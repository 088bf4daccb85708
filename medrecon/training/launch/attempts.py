"""Starts a training, and starts it again from its last checkpoint when it dies."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medrecon.errors import MedreconError, ModelError, OutOfMemoryError, OutputError, UsageError, in_short
from medrecon.io import ScanError
from medrecon.training.launch.job import Training

_KNOWN = {kind.__name__: kind for kind in (ModelError, OutputError, ScanError, UsageError, OutOfMemoryError)}
_ERROR = re.compile(
    r"^(?:\[?rank\d+\]?: ?)?(?:\d+: ?)?([\w.]*?)(\w+(?:Error|Exception)): ?(.*)$", re.MULTILINE
)
_NO_CAUSE = ("ChildFailedError", "SignalException")
"""What torchrun says when one of its processes failed; the cause is what that one said."""

_LEFT_BEHIND = (
    "Connection reset",
    "Connection closed",
    "gloo",
    "NCCL",
    "Broken pipe",
    "killed by signal",  # a process that prepares samples
    "exited unexpectedly",
)

_CHAINED = re.compile(
    r"(direct cause of the following exception|another exception occurred):\s+(\[?rank\d+\]?: ?)?$"
)
"""Before the traceback of an error that only wraps one that was told already."""

_FULL = re.compile(r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing")
_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)


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
        said = training.log.stat().st_size if training.log.exists() else 0
        attempts += 1
        ended = runner.run(training, tick)
        if training.done:
            break
        error = reason(training.log, said)
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


def reason(log: Path, begin: int) -> MedreconError | None:
    """Why an attempt failed by its own fault, from what it wrote; None where something killed it.

    Args:
        log: what its processes wrote.
        begin: how many bytes of it are older.
    """
    if not log.is_file():
        return None
    with log.open("rb") as stream:
        stream.seek(begin)
        text = stream.read().decode(errors="replace")
    found = [match for match in _ERROR.finditer(text) if match[2] not in _NO_CAUSE]
    for match in found:
        if match[2] in _KNOWN and match[1].startswith("medrecon."):
            return _KNOWN[match[2]](match[3], remedy=f"see {log}")
    if _FULL.search(text):
        return OutputError(
            "the disk is full", path=log.parent, remedy="free space there, then start it again"
        )
    if _MEMORY.search(text):
        return OutOfMemoryError(
            "not enough memory for this training", path=log, remedy="lower it with --set batch_size=1"
        )
    causes = [match for match in found if not _is_wrapper(text, match.start())]
    own = [match for match in causes if not _from_others_death(match[0])]
    if not own:
        return None
    return MedreconError(f"{own[-1][2]}: {in_short(own[-1][3], 300)}", path=log, remedy="see its end")


def _is_wrapper(text: str, at: int) -> bool:
    """Whether the error that is told there wraps one that was told before it."""
    begin = text.rfind("Traceback", 0, at)
    return begin >= 0 and _CHAINED.search(text, max(0, begin - 200), begin) is not None


def _from_others_death(line: str) -> bool:
    """Whether an error only says that another process of the same training went away."""
    return any(word in line for word in _LEFT_BEHIND)
