"""A training as a job of a batch system; the system is played by a script that runs the job at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.compute.clusters import Place
from medrecon.errors import UsageError
from medrecon.training.launch.attempts import launch
from medrecon.training.launch.batch import Batch
from medrecon.training.launch.job import Training
from medrecon.training.launch.runner import choose_runner

SBATCH = """#!/bin/sh
PATH=/usr/bin:/bin
bash "$1" > /dev/null 2>&1 &
echo $! > {folder}/pid
echo "Submitted batch job 7"
"""
SQUEUE = """#!/bin/sh
PATH=/usr/bin:/bin
kill -0 "$(cat {folder}/pid)" 2> /dev/null && echo "7 R"
exit 0
"""
SCANCEL = """#!/bin/sh
PATH=/usr/bin:/bin
kill "$(cat {folder}/pid)"
touch {folder}/cancelled
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its commands in front of all others; the folder holds what they note down."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    commands = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "sacct": "#!/bin/sh\nexit 1\n"}
    for name, text in commands.items():
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


class Scripted(Training):
    """A training whose processes are a few lines of Python."""

    text: str

    def command(self, meeting: str = "--standalone") -> list[str]:
        return [sys.executable, "-c", self.text]


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[[str], Training]:
    """`scripted(text)` -> a training that runs it in its folder `run`."""

    def make(text: str) -> Training:
        (tmp_path / "run").mkdir()
        made = Scripted(tmp_path / "run", (), 1, 1, 3)
        object.__setattr__(made, "text", f"import os, pathlib; os.chdir({str(made.run)!r}); {text}")
        return made

    return make


def test_a_job_that_is_lost_is_submitted_again(slurm: Path, scripted: Callable[[str], Training]) -> None:
    training = scripted(
        "first = not pathlib.Path('checkpoint_epoch=1.pt').exists(); print('one' if first else 'two');"
        "pathlib.Path('checkpoint_epoch=1.pt').touch(); first and os._exit(137);"
        "os.mkdir('configs'); pathlib.Path('configs/metadata.json').touch()"
    )
    said: list[str] = []
    ended = launch(training, Batch(Place("slurm"), every=0.2), restarts=0, say=said.append)
    assert ended.attempts == 2
    assert said == ["job 7 ended (completed); started again from epoch 1"]
    assert training.log.read_text() == "one\ntwo\n"
    assert not (slurm / "cancelled").exists()


def test_an_interrupt_cancels_the_job(slurm: Path, scripted: Callable[[str], Training]) -> None:
    training = scripted("import time; time.sleep(60)")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(training, Batch(Place("slurm"), every=0.2), tick=interrupt)
    assert (slurm / "cancelled").exists()


@pytest.mark.usefixtures("slurm")
def test_processes_share_the_cores_and_several_machines_meet_at_the_first(tmp_path: Path) -> None:
    training = Training(tmp_path, (tmp_path / "a b.yaml",), 4, 2, 3)
    lines = Batch(Place("slurm", 2, options={"partition": "gpu"}), on_cpu=True).script(training).splitlines()
    assert lines[0] == "export PYTHONSAFEPATH=1"
    assert lines[1] == f"export TORCHELASTIC_ERROR_FILE={tmp_path}/errors/${{SLURM_NODEID:-0}}.json"
    assert lines[2] == "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(( ($(nproc) + 3) / 4 ))}"
    assert lines[3] == "export CUDA_VISIBLE_DEVICES="
    assert '--rdzv-endpoint="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):' in lines[4]
    assert "--nnodes=2 --nproc-per-node=4" in lines[4]
    assert lines[4].endswith(f">> {tmp_path}/train.log 2>&1")


@pytest.mark.usefixtures("slurm")
def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no training on --cluster kubernetes"):
        Batch(Place("kubernetes"))
    with pytest.raises(UsageError, match="several nodes of pbs"):
        Batch(Place("pbs", 2))
    with pytest.raises(UsageError, match="did you mean 'partition'"):
        Batch(Place("slurm", options={"partitoin": "x"}))


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    ("device", "asked", "gpus", "hidden", "processes"),
    [
        ("auto", {}, 0, False, 1),
        ("auto", {"gpus": 4}, 4, False, 4),
        ("cuda", {}, 1, False, 1),
        ("cpu", {"processes": 2}, 0, True, 2),
        ("auto", {"gpus": 0}, 0, True, 1),
    ],
)
def test_gpus_are_hidden_only_from_those_who_want_none(
    device: str, asked: dict[str, int], gpus: int, hidden: bool, processes: int
) -> None:
    runner, found = choose_runner(device, cluster="slurm", **asked)
    assert isinstance(runner, Batch)
    assert (len(runner.place.accelerators), runner.on_cpu, found) == (gpus, hidden, processes)
    with pytest.raises(UsageError, match="5 processes for 4 GPU"):
        choose_runner("auto", cluster="slurm", gpus=4, processes=5)
