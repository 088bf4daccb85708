"""How large a tile a device's free memory holds, and what to do when it did not."""

from __future__ import annotations

import psutil
import torch

from medrecon.contract import Decoder

MOST_VOXELS = 272 << 20
"""A tile is never larger. 512x512x1000 voxels are one tile with it, and 512x512x2000 two that overlap."""


def free_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return int(free)


def free_voxels(device: torch.device, each: int = Decoder.bytes_per_voxel) -> int:
    """Voxels of a tile, of so many bytes each, that half of the free memory of a device can hold."""
    return max(1, free_bytes(device) // 2 // each)


def affordable_voxels(device: torch.device, each: int = Decoder.bytes_per_voxel) -> int:
    """The same, or `MOST_VOXELS` where that is less: the largest tile by default."""
    return min(MOST_VOXELS, free_voxels(device, each))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a tensor did not fit, on the GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def give_back(device: torch.device) -> None:
    """Let go of what torch keeps of a GPU's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
