"""A training's processes on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from medrecon.compute.safe_path import safe_environment
from medrecon.io.files.atomic import open_private
from medrecon.training.launch.job import Training

_TICK = 1.0
_PATIENCE = 20.0
"""Seconds that processes get to end before they are killed."""


@dataclass(frozen=True)
class LocalRunner:
    """Runs a training on this machine.

    Attributes:
        gpus: names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them; None for all there are.
        cores: shared out among the processes.
    """

    gpus: str | None = None
    cores: int = 1

    def run(self, training: Training, tick: Callable[[], None]) -> str:
        """Start it, wait for its end, and leave no process behind; see `attempts.Runner`."""
        with open_private(training.log) as log:
            process = subprocess.Popen(
                training.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment(training),
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        try:
            while True:
                try:
                    code = process.wait(_TICK)
                    break
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            _end(process)
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _environment(self, training: Training) -> dict[str, str]:
        made = safe_environment(os.environ)
        made["TORCHELASTIC_ERROR_FILE"] = str(training.errors.absolute() / "0.json")
        if training.processes > 1:  # torchrun would give each a single thread
            made.setdefault("OMP_NUM_THREADS", str(max(1, self.cores // training.processes)))
        if self.gpus is not None:
            made["CUDA_VISIBLE_DEVICES"] = self.gpus
        return made


def _die_with_parent() -> None:
    """Have the system end the training when this program is killed: else nobody would watch it."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still there; torchrun then ends its own."""
    if process.poll() is not None:
        return
    process.terminate()
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    if process.poll() is None:
        process.kill()
        process.wait()
