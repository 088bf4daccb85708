"""The two types that the rooms of the package exchange."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Features = dict[str, torch.Tensor]
"""Layer name -> feature map, (B, C, *spatial / stride)."""


@dataclass(frozen=True)
class LayerInfo:
    """What an encoder declares of one of its layers.

    Attributes:
        name: the name by which the layer is chosen.
        channels: number of feature maps.
        stride: input voxels per feature position, along each axis.
        receptive_field: input voxels that one feature value sees, along each axis; None where it is the whole
            image or unknown (norms over space, attention).
    """

    name: str
    channels: int
    stride: tuple[int, ...]
    receptive_field: tuple[int, ...] | None = None

    @property
    def values_per_voxel(self) -> float:
        """Feature values kept for each voxel of the input."""
        positions = 1
        for step in self.stride:
            positions *= step
        return self.channels / positions
