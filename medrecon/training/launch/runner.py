"""What runs a training: this machine or a batch system."""

from __future__ import annotations

from collections.abc import Sequence

from medrecon.compute.clusters import LOCAL, Place, check_cluster, count_cores, parse_options
from medrecon.compute.devices import pick_gpus
from medrecon.errors import UsageError
from medrecon.training.launch.attempts import Runner
from medrecon.training.launch.batch import Batch
from medrecon.training.launch.local import LocalRunner


def choose_runner(
    device: str,
    *,
    cluster: str = LOCAL,
    nodes: int = 1,
    processes: int | None = None,
    gpus: int | None = None,
    cluster_options: Sequence[str] = (),
) -> tuple[Runner, int]:
    """What runs the training, and how many processes it has on each machine.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        cluster: "local", "slurm" or "pbs".
        nodes: machines of the cluster.
        processes: on each machine; None: one for each GPU, else 1.
        gpus: of each machine; None: those of this one.
        cluster_options: NAME=VALUE, for Parsl's provider.

    Raises:
        UsageError: options that do not make sense together.
    """
    check_cluster(cluster)
    options = parse_options(cluster_options, cluster, nodes)
    names = pick_gpus(device, gpus, here=cluster == LOCAL)
    count = processes or max(1, len(names))
    if names and count > len(names):
        raise UsageError(f"{count} processes for {len(names)} GPU(s)", remedy="each has a GPU of its own")
    if cluster == LOCAL:
        return LocalRunner(",".join(names[:count]), count_cores()), count
    on_cpu = device == "cpu" or gpus == 0
    return Batch(Place(cluster, nodes, 1, names, options), on_cpu=on_cpu), count
