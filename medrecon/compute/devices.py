"""The devices that a user means, and those that there are."""

from __future__ import annotations

import os

import torch

from medrecon.errors import UsageError


def pick_device(name: str) -> torch.device:
    """The device that a user means: "auto" takes a GPU where there is one.

    Raises:
        UsageError: not a device, or not one of this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device '{name}'", remedy="use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device '{name}' is not supported", remedy="use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no '{name}' on this machine", remedy="use --device cpu or auto")
    return device


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def pick_gpus(device: str, count: int | None, *, here: bool) -> tuple[str, ...]:
    """The GPUs of each machine that are to be used, as CUDA_VISIBLE_DEVICES names them.

    Args:
        device: what `--device` says.
        count: what `--gpus` says; None takes all there are here, on a cluster one where `device` is "cuda".
        here: on this machine, not on a cluster.

    Raises:
        UsageError: more than there are, some with `--device cpu`, or a number of one on a cluster.
    """
    if device == "cpu" and count:
        raise UsageError(f"--gpus {count} with --device cpu", remedy="leave one of them out")
    if device == "cpu" or count == 0:
        return ()
    if not here:
        if device.startswith("cuda:"):
            raise UsageError(f"--device {device} on a cluster", remedy="use --device cuda and --gpus N")
        return tuple(str(number) for number in range(int(device == "cuda") if count is None else count))
    chosen = pick_device(device)
    if chosen.type != "cuda":
        if count:
            raise UsageError(f"--gpus {count}, but there is none here", remedy="leave --gpus out")
        return ()
    there = visible_gpus()
    if chosen.index is not None:
        return (there[chosen.index],)
    if (count or 0) > len(there):
        raise UsageError(f"--gpus {count}, but there are {len(there)}", remedy="ask for fewer")
    return tuple(there[: count or len(there)])
