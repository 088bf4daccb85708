"""The options that say on which machines something runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

_CLUSTER = "Machines"


@dataclass(frozen=True)
class Machines:
    """What a cluster, or this machine, gives to the work."""

    cluster: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="local|slurm|pbs|kubernetes",
            rich_help_panel=_CLUSTER,
            help="Where it runs; kubernetes is for cohorts only.",
        ),
    ] = "local"
    nodes: Annotated[
        int,
        typer.Option(
            "--nodes",
            min=1,
            metavar="N",
            rich_help_panel=_CLUSTER,
            help="Machines of the cluster that take part.",
        ),
    ] = 1
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            min=0,
            metavar="N",
            rich_help_panel=_CLUSTER,
            help="GPUs of each machine, one process for each. Default: those of this machine.",
        ),
    ] = None
    cluster_options: Annotated[
        list[str] | None,
        typer.Option(
            "--cluster-option",
            metavar="NAME=VALUE",
            rich_help_panel=_CLUSTER,
            help="Of Parsl's provider, such as partition, account, walltime, worker_init, image; "
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
