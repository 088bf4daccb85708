"""Where workers come from: this machine or a batch system's. Nothing else of a run depends on it."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medrecon.compute.safe_path import SAFE, module_command
from medrecon.errors import UsageError, near

LOCAL = "local"
_KINDS = {
    LOCAL: ("LocalProvider", ""),
    "slurm": ("SlurmProvider", "sbatch"),
    "pbs": ("PBSProProvider", "qsub"),
    "kubernetes": ("KubernetesProvider", ""),
}
"""Cluster -> Parsl's provider, and the command that it cannot do without."""

CLUSTERS = tuple(_KINDS)
_POOL = "parsl.executors.high_throughput.process_worker_pool"
_WALLTIME = "04:00:00"


@dataclass(frozen=True)
class Place:
    """Where the workers run.

    Attributes:
        cluster: one of `CLUSTERS`.
        nodes: machines; each is one job of the batch system.
        workers: on each of them.
        accelerators: the names of the GPUs on each of them; one worker is pinned to each.
        options: of Parsl's provider, by name: partition, account, walltime, worker_init, image ...
        address: where the workers reach this machine; "" finds it.
    """

    cluster: str = LOCAL
    nodes: int = 1
    workers: int = 1
    accelerators: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""


def check_cluster(cluster: str) -> None:
    """Refuse a batch system that is not one of ours, or not on this machine.

    Raises:
        UsageError: which, and what there is.
    """
    if cluster not in CLUSTERS:
        raise UsageError(
            f"no cluster '{cluster}'" + near(cluster, CLUSTERS), remedy=f"use {', '.join(CLUSTERS)}"
        )
    command = _KINDS[cluster][1]
    if command and shutil.which(command) is None:
        raise UsageError(
            f"--cluster {cluster} needs the command '{command}'",
            remedy="start on a machine that may submit jobs, or use --cluster local",
        )


def parse_options(given: Sequence[str], cluster: str, nodes: int) -> dict[str, Any]:
    """NAME=VALUE of `--cluster-option`, the values as YAML; a time such as 04:00:00 stays a text.

    Raises:
        UsageError: one that is not of this form; options or several nodes of this machine.
    """
    if cluster == LOCAL and (nodes > 1 or given):
        raise UsageError("--nodes and --cluster-option need a --cluster", remedy="add --cluster slurm")
    options = {}
    for text in given:
        name, found, value = text.partition("=")
        if not found or not name.strip():
            raise UsageError(f"--cluster-option {text}", remedy="write it as NAME=VALUE")
        try:
            options[name.strip()] = value if ":" in value else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--cluster-option {text} is no YAML", remedy="quote the value") from error
    return options


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def provider_of(place: Place) -> Any:
    """Parsl's provider for a place.

    Raises:
        UsageError: an option that it does not have or cannot use.
    """
    import parsl.providers as providers
    from parsl.errors import ParslError
    from parsl.launchers import SimpleLauncher

    given: dict[str, Any] = {"min_blocks": 0, "nodes_per_block": 1}
    kind = getattr(providers, _KINDS[place.cluster][0])
    given |= {"init_blocks": place.nodes, "max_blocks": place.nodes}
    gpus = len(place.accelerators)
    if place.cluster in ("slurm", "pbs"):
        given |= {"walltime": _WALLTIME, "launcher": SimpleLauncher()}
    if gpus and place.cluster == "slurm":
        given["gpus_per_node"] = gpus
    if gpus and place.cluster == "pbs":
        given["select_options"] = f"ngpus={gpus}"
    if gpus and place.cluster == "kubernetes":
        given["extra_limits"] = {"nvidia.com/gpu": str(gpus)}
    known = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    for name in place.options:
        if name not in known:
            raise UsageError(
                f"--cluster-option {name}: {place.cluster} has no such option" + near(name, known),
                remedy=f"use one of {', '.join(sorted(known))}",
            )
    given |= place.options
    safe = "\n".join(f"export {name}={value}" for name, value in SAFE.items())
    given["worker_init"] = f"{safe}\n{given.get('worker_init', '')}"
    try:
        return kind(**given)
    except (ParslError, TypeError, ValueError, ImportError) as error:
        raise UsageError(
            f"--cluster {place.cluster} cannot be used: {error}", remedy="mend --cluster-option"
        ) from error
    except Exception as error:  # typeguard, which Parsl checks arguments with, has an exception of its own
        if type(error).__name__ != "TypeCheckError":
            raise
        raise UsageError(f"--cluster-option: {error}", remedy="mend its value") from error


def pool_command(place: Place) -> str:
    """What starts a machine's workers: with this Python and its Parsl; in a container's image with its own.

    It is run as a script, so that nothing in the current folder is taken for a library.
    """
    script = Path(sys.executable).with_name("process_worker_pool.py")
    if place.cluster == "kubernetes":
        return f"python3 -m {_POOL}"
    return shlex.join([sys.executable, str(script)] if script.is_file() else module_command(_POOL))
