"""A training's processes as a job of a batch system, by Parsl's providers: the same as cohorts use."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from medrecon.compute.clusters import Place, provider_of
from medrecon.compute.safe_path import SAFE
from medrecon.errors import UsageError
from medrecon.io.files.atomic import open_private
from medrecon.training.launch.job import Training

_TICK = 1.0
_PORT = 29517
_MEETING = (
    '--rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" '
    f'--rdzv-endpoint="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):{_PORT}"'
)
"""The processes of several machines meet at the first of the job's."""

KINDS = ("slurm", "pbs")


@dataclass(frozen=True)
class Batch:
    """Runs a training as one job.

    Attributes:
        place: the cluster, its options, the machines and their GPUs.
        every: seconds between looks at the job.
        on_cpu: keep the processes off GPUs.
    """

    place: Place
    every: float = 15.0
    on_cpu: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be submitted.

        Raises:
            UsageError: why.
        """
        if self.place.cluster not in KINDS:
            raise UsageError(
                f"no training on --cluster {self.place.cluster}",
                remedy=f"use {', '.join(KINDS)}, or start torchrun in a job of your own (multi_gpu.yaml)",
            )
        if self.place.nodes > 1 and self.place.cluster != "slurm":
            raise UsageError(f"several nodes of {self.place.cluster}", remedy="use --nodes 1, or slurm")
        self._provider()

    def run(self, training: Training, tick: Callable[[], None]) -> str:
        """Submit it and wait for its end; interrupted, cancel it; see `attempts.Runner`."""
        provider = self._provider()
        folder = training.run / "jobs"
        folder.mkdir(exist_ok=True)
        provider.script_dir = str(folder)
        open_private(training.log).close()
        job = provider.submit(self.script(training), 1, "medrecon-train")
        looked = 0.0
        try:
            while True:
                if time.monotonic() - looked >= self.every:
                    looked = time.monotonic()
                    (status,) = provider.status([job])
                    if status.terminal:
                        return f"job {job} ended ({status.state.name.lower()})"
                time.sleep(_TICK)
                tick()
        except BaseException:
            with contextlib.suppress(Exception):
                provider.cancel([job])
            raise

    def script(self, training: Training) -> str:
        """What each machine of the job runs, as shell."""
        one = training.nodes == 1
        words = training.command() if one else training.command("MEETING")
        line = " ".join(shlex.quote(word) for word in words).replace("MEETING", _MEETING)
        errors = shlex.quote(str(training.errors.absolute()))
        lines = [f"export {name}={value}" for name, value in SAFE.items()]
        lines.append(f"export TORCHELASTIC_ERROR_FILE={errors}/${{SLURM_NODEID:-0}}.json")
        if training.processes > 1:
            share = f"$(( ($(nproc) + {training.processes - 1}) / {training.processes} ))"
            lines.append(f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{share}}}")
        if self.on_cpu:
            lines.append("export CUDA_VISIBLE_DEVICES=")
        return "\n".join([*lines, f"{line} >> {shlex.quote(str(training.log.absolute()))} 2>&1"])

    def _provider(self) -> Any:
        place = self.place
        if place.nodes > 1:
            from parsl.launchers import SrunLauncher

            spread = {"nodes_per_block": place.nodes, "launcher": SrunLauncher()}
            place = replace(place, options={**spread, **place.options})
        return provider_of(replace(place, nodes=1))
