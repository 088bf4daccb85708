"""A training that is killed, by the operating system, in the middle: what it ends with after a resume."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from .names import MakeBundle, Overrides
from .trainings import ADVERSARIAL, TRAININGS

KILL = """
+imports:
  - $import os
  - $import signal
  - $from ignite.engine import Events
+initialize:
  - "$@train#trainer.add_event_handler(Events.%s(once=%d), lambda _: os.kill(os.getpid(), signal.SIGKILL))"
"""
EPOCHS, STEPS = 4, 3


def start(config: list[Path], options: dict[str, Any], environment: dict[str, str]) -> subprocess.Popen[str]:
    """`python -m monai.bundle run`, as a user starts it."""
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    files = str([str(path) for path in config])
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", files, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def different(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two checkpoints differ, down to the last bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        return [name for key in one for name in different(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        return [
            name
            for k, pair in enumerate(zip(one, other, strict=True))
            for name in different(*pair, f"{path}/{k}")
        ]
    return [] if one == other else [path]


@TRAININGS
def test_a_killed_run_ends_as_the_undisturbed_one(
    name: str,
    overlays: list[str],
    tmp_path: Path,
    small_bundle: MakeBundle,
    short_training: Overrides,
    one_thread: dict[str, str],
) -> None:
    bundle = small_bundle(name)
    configs = [bundle / "configs" / file for file in ("train.yaml", *overlays)]
    step = random.SystemRandom().randint(1, EPOCHS * STEPS)
    event = random.SystemRandom().choice(["ITERATION_STARTED", "ITERATION_COMPLETED"])
    said = f"killed at {event} of step {step}"
    (tmp_path / "kill.yaml").write_text(KILL % (event, step))
    sizes = {
        "max_epochs": EPOCHS,
        "iterations_per_epoch": STEPS,
        "patience": 9,
        **({**ADVERSARIAL, "generator_loss#start": 2} if overlays else {}),
    }
    straight = start(configs, short_training(name, tmp_path / "straight", **sizes), one_thread)
    options = short_training(name, tmp_path / "cut", **sizes)
    killed = start([*configs, tmp_path / "kill.yaml"], options, one_thread)
    assert killed.wait(600) == -signal.SIGKILL, killed.stderr and killed.stderr.read()[-3000:]
    assert not (tmp_path / "cut" / "model.pt").exists(), said
    resumed = start(configs, {**options, "resume": True}, one_thread)
    for process in (straight, resumed):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-3000:]
    runs = [tmp_path / "straight", tmp_path / "cut"]
    weights = [torch.load(run / "model.pt", weights_only=True) for run in runs]
    assert different(*weights) == [], said
    parts = [torch.load(run / f"checkpoint_epoch={EPOCHS}.pt", weights_only=True) for run in runs]
    for part in parts:
        assert part["provenance"].pop("seconds") > 0
        assert len(part["provenance"]["figures"]) == 2
        assert part["stopping"]["best_score"] > 0
    assert different(*parts) == [], said
    assert different(parts[0]["network"], parts[0]["average"]), "the average is something else"
