"""What a dead training is started again for, and what it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.errors import MedreconError, ModelError, OutOfMemoryError
from medrecon.io import ScanError
from medrecon.training.launch.attempts import launch, reason
from medrecon.training.launch.job import Training


class Script:
    """A runner whose attempts do what they are told: epochs reached, words said, done."""

    def __init__(self, *attempts: tuple[int, str, bool]) -> None:
        self.attempts = list(attempts)
        self.ran = 0

    def run(self, training: Training, tick: Callable[[], None]) -> str:
        epoch, said, done = self.attempts[min(self.ran, len(self.attempts) - 1)]
        self.ran += 1
        with training.log.open("a") as log:
            log.write(said)
        if epoch:
            (training.run / f"checkpoint_epoch={epoch}.pt").touch()
        if done:
            (training.run / "configs").mkdir()
            (training.run / "configs" / "metadata.json").touch()
        tick()
        return "ended by SIGKILL"


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Nine epochs, in an empty folder."""
    return Training(tmp_path, (), 1, 1, 9)


def test_what_is_killed_is_started_again_from_where_it_was(training: Training) -> None:
    lines: list[str] = []
    runner = Script((4, "", False), (6, "", False), (9, "", True))
    ended = launch(training, runner, restarts=0, say=lines.append)
    assert (ended.attempts, ended.begun, training.done) == (3, 0, True)
    assert lines == [f"ended by SIGKILL; started again from epoch {epoch}" for epoch in (4, 6)]
    again = launch(training, runner)
    assert (again.attempts, again.begun) == (0, 9)
    assert runner.ran == 3


def test_it_is_given_up_when_it_gets_nowhere(training: Training) -> None:
    runner = Script((2, "", False))
    with pytest.raises(MedreconError, match="died 3 times in a row") as given_up:
        launch(training, runner, restarts=2)
    assert given_up.value.path == training.log
    assert runner.ran == 4, "the first brought a checkpoint"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("Traceback:\nmedrecon.errors.ModelError: no 'x'; use y\n\nValueError: a\n", ModelError, "use y"),
        ("[rank1]: medrecon.io.scan.ScanError: ct: truncated\n", ScanError, "ct: truncated"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory\n", OutOfMemoryError, "memory"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried\n", OutOfMemoryError, "memory"),
        ("ValueError: first\nKeyError: 'patch'\n", MedreconError, "KeyError: 'patch'"),
    ],
)  # fmt: skip
def test_an_error_of_its_own_ends_it(
    training: Training, said: str, kind: type[MedreconError], words: str
) -> None:
    runner = Script((0, said, False))
    with pytest.raises(kind, match=words) as ended:
        launch(training, runner)
    assert type(ended.value) is kind
    assert runner.ran == 1
    assert str(training.log) in str(ended.value)


def test_errors_of_those_that_were_left_behind_are_no_reason(training: Training) -> None:
    training.log.write_text("medrecon.errors.ModelError: of an attempt before\n")
    begin = training.log.stat().st_size
    with training.log.open("a") as log:
        log.write("[rank0]: RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer\n")
        log.write("[rank0]: The above exception was the direct cause of the following exception:\n\n")
        log.write("[rank0]: Traceback (most recent call last):\n[rank0]: RuntimeError: Failed to evaluate\n")
        log.write("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. \n")
        log.write("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n")
    assert reason(training.log, begin) is None
    assert isinstance(reason(training.log, 0), ModelError)
    assert reason(training.log.with_name("none"), 0) is None
