"""What a dead training is started again for, and what it is not."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.compute.safe_path import module_command
from medrecon.errors import MedreconError, ModelError, OutOfMemoryError, OutputError
from medrecon.io import ScanError
from medrecon.training.launch.attempts import launch
from medrecon.training.launch.cause import describe, read_cause
from medrecon.training.launch.job import Training
from medrecon.training.launch.process import CauseHandler

Said = Exception | None


class Script:
    """A runner whose attempts do what they are told: epochs reached, an error written down, done."""

    def __init__(self, *attempts: tuple[int, Said, bool]) -> None:
        self.attempts = list(attempts)
        self.ran = 0

    def run(self, training: Training, tick: Callable[[], None]) -> str:
        epoch, said, done = self.attempts[min(self.ran, len(self.attempts) - 1)]
        self.ran += 1
        if said is not None:
            (training.errors / "0.json").write_text(json.dumps(describe(said)))
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
    runner = Script((4, None, False), (6, None, False), (9, None, True))
    ended = launch(training, runner, restarts=0, say=lines.append)
    assert (ended.attempts, ended.begun, training.done) == (3, 0, True)
    assert lines == [f"ended by SIGKILL; started again from epoch {epoch}" for epoch in (4, 6)]
    again = launch(training, runner)
    assert (again.attempts, again.begun) == (0, 9)
    assert runner.ran == 3


def test_it_is_given_up_when_it_gets_nowhere(training: Training) -> None:
    runner = Script((2, None, False))
    with pytest.raises(MedreconError, match="died 3 times in a row") as given_up:
        launch(training, runner, restarts=2)
    assert given_up.value.path == training.log
    assert runner.ran == 4, "the first brought a checkpoint"


def chained(inner: Exception, outer: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


IN_A_WORKER = """Caught ScanError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "reader.py", line 1, in read
medrecon.io.scan.ScanError: ct: truncated
"""


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (chained(ModelError("no x", remedy="use y"), RuntimeError("Failed")), ModelError, "no x; use y"),
        (ScanError(IN_A_WORKER), ScanError, "^ct: truncated; see"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemoryError, "memory"),
        (chained(MemoryError(), RuntimeError("Failed to evaluate")), OutOfMemoryError, "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3"), OutputError, "the disk is full"),
        (chained(KeyError("patch"), RuntimeError("Failed to evaluate")), MedreconError, "KeyError: 'patch'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_an_error_of_its_own_ends_it(
    training: Training, said: Exception, kind: type[MedreconError], words: str
) -> None:
    runner = Script((0, said, False))
    with pytest.raises(kind, match=words) as ended:
        launch(training, runner)
    assert type(ended.value) is kind
    assert runner.ran == 1
    assert str(training.log) in str(ended.value)
    assert not training.errors.exists(), "it may name scans"


@pytest.mark.parametrize(
    "said",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
        chained(RuntimeError("NCCL communicator was aborted"), RuntimeError("Failed to evaluate")),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
    ],
    ids=str,
)
def test_who_was_left_behind_has_no_reason(training: Training, said: Exception) -> None:
    runner = Script((4, said, False), (9, None, True))
    assert launch(training, runner).attempts == 2
    earlier, later = describe(ValueError("the reason")), describe(said)
    first, second = (int(data["message"]["extraInfo"]["timestamp"]) for data in (earlier, later))
    assert second > first + 1, "in the same second, torchrun would take either"


def write(training: Training, **machines: dict[str, object] | str) -> None:
    training.errors.mkdir(exist_ok=True)
    for name, content in machines.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (training.errors / f"{name}.json").write_text(text)


def test_of_several_machines_the_earliest_counts(training: Training) -> None:
    early, late = describe(ModelError("the reason")), describe(ModelError("what followed"))
    early["message"]["extraInfo"]["timestamp"] = "1700000000"
    write(training, n0=late, n1=early, n2='{"message": {"mess')
    assert "the reason" in str(read_cause(training.errors, training.log))


def test_what_torchrun_itself_says(training: Training) -> None:
    said = {"message": "RendezvousConnectionError: nobody there", "extraInfo": {"timestamp": "1700000000"}}
    write(training, n0={"message": said})
    assert "RendezvousConnectionError: nobody there" in str(read_cause(training.errors, training.log))
    said["message"] = "SignalException: Process 7 got signal: 15"
    write(training, n0={"message": said})
    assert read_cause(training.errors, training.log) is None, "a time limit"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"message": 3}', '{"message": {"extraInfo": {}}}'])
def test_files_that_say_nothing(training: Training, content: str) -> None:
    write(training, n0=content)
    assert read_cause(training.errors, training.log) is None


@pytest.mark.slow
def test_a_process_writes_what_it_ended_with(training: Training) -> None:
    """As `launch` starts it, with a configuration that fails."""
    training.errors.mkdir(mode=0o700)
    config = training.run / "train.json"
    config.write_text(json.dumps({"network": "$1/0"}))
    file = training.errors / "0.json"
    words = ["run", "--run_id", "network", "--config_file", str(config)]
    done = subprocess.run(
        [*module_command("medrecon.training.launch.process"), *words],
        env={**os.environ, "TORCHELASTIC_ERROR_FILE": str(file)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr, "the log keeps it"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(read_cause(training.errors, training.log)) == (
        f"{training.log}: ZeroDivisionError: division by zero; see its end"
    )


def test_a_process_that_is_killed_while_it_writes_leaves_no_half_of_a_file(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun reads the file of each process that it ends, and fails itself on one that is cut."""
    training.errors.mkdir(mode=0o700)
    file = training.errors / "0.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))

    def killed(path: Path, data: str | bytes, *args: object, **kwargs: object) -> int:
        with path.open("wb") as stream:
            stream.write(b'{"mess')
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        CauseHandler().record_exception(ScanError("is broken", path=file, remedy="look"))
    assert not file.exists()
