"""The options that say on which machines something runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from medrecon.cli.declare import option

machine_option = partial(option, panel="Machines")


@dataclass(frozen=True)
class Machines:
    """What a cluster, or this machine, gives to the work."""

    cluster: Annotated[
        str,
        machine_option(
            "--cluster local|slurm|pbs|kubernetes", "Where it runs; kubernetes is for cohorts only."
        ),
    ] = "local"
    nodes: Annotated[int, machine_option("--nodes N", "Machines of the cluster that take part.", min=1)] = 1
    gpus: Annotated[
        int | None,
        machine_option(
            "--gpus N", "GPUs of each machine, one process for each. Default: those of this machine.", min=0
        ),
    ] = None
    cluster_options: Annotated[
        list[str] | None,
        machine_option(
            "--cluster-option NAME=VALUE",
            "Of Parsl's provider, such as partition, account, walltime, worker_init, image; "
            "repeatable. For cohorts, 'address' is this machine's, as the workers reach it.",
        ),
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """What the planners of workers and processes take."""
        return {
            "cluster": self.cluster,
            "nodes": self.nodes,
            "gpus": self.gpus,
            "cluster_options": tuple(self.cluster_options or ()),
        }
