"""Where the workers of a cohort run, and how many of them."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from medrecon.compute.clusters import LOCAL, Place, check_cluster, count_cores, parse_options
from medrecon.compute.devices import pick_gpus
from medrecon.errors import UsageError

_MEMORY_PER_WORKER = 4 << 30


def plan_workers(
    device: str,
    *,
    cluster: str = LOCAL,
    nodes: int = 1,
    workers: int | None = None,
    gpus: int | None = None,
    cluster_options: Sequence[str] = (),
) -> tuple[Place, int]:
    """Share workers out among machines and GPUs.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        cluster: one of `medrecon.compute.clusters.CLUSTERS`.
        nodes: machines of the cluster.
        workers: of all machines together; None: one for each GPU, else as many as cores and memory allow
            (on a cluster one for each node).
        gpus: of each machine; None: those of this one.
        cluster_options: NAME=VALUE, for Parsl's provider.

    Returns:
        The place, and the cores of a machine that cannot see its own (0: it can).

    Raises:
        UsageError: options that do not make sense together.
    """
    check_cluster(cluster)
    options = parse_options(cluster_options, cluster, nodes)
    accelerators = pick_gpus(device, gpus, here=cluster == LOCAL)
    if accelerators:
        most = len(accelerators)
    elif cluster == LOCAL:
        most = max(1, min(count_cores(), psutil.virtual_memory().available // _MEMORY_PER_WORKER))
    else:
        most = 1
    on_each = -(-workers // nodes) if workers else most
    if accelerators and on_each > most:
        raise UsageError(
            f"{on_each} workers for {most} GPU(s) of a machine", remedy="each worker has a GPU of its own"
        )
    address = str(options.pop("address", ""))
    cores = int(float(options.get("max_cpu", 2))) if cluster == "kubernetes" else 0
    return Place(cluster, nodes, on_each, accelerators[:on_each], options, address), cores
