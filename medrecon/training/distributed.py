"""Training on several processes: what a bundle's multi_gpu.yaml calls. Started by torchrun."""

from __future__ import annotations

import os

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from medrecon.errors import ModelError


def join_processes() -> int:
    """Join the processes that torchrun started, by NCCL on GPUs and by gloo without.

    Returns:
        This process's rank.

    Raises:
        ModelError: torchrun did not start this process.
    """
    if not distributed.is_torchelastic_launched():
        raise ModelError(
            "multi_gpu.yaml runs on several processes",
            remedy="start it by torchrun --standalone --nproc-per-node=2 -m monai.bundle run ...",
        )
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank()


def count_processes() -> int:
    """Join the processes that torchrun started; how many they are.

    Raises:
        ModelError: torchrun did not start this process.
    """
    join_processes()
    return distributed.get_world_size()


def own_device() -> torch.device:
    """The GPU of this process, or the CPU where there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def distribute(network: nn.Module) -> DistributedDataParallel:
    """A network whose gradients are averaged over all processes, which it joins first.

    A step reconstructs from layers drawn by chance, the same for each process, and need not use every
    parameter. Buffers are the same for each process from the start, and are not sent.
    """
    join_processes()
    device = next(network.parameters()).device
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=True,
        broadcast_buffers=False,
    )
