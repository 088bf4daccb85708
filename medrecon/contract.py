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
        mean_rate: feature values kept for each voxel on average, where a layer leaves some of its channels
            empty at some positions; None where it fills all.
    """

    name: str
    channels: int
    stride: tuple[int, ...]
    receptive_field: tuple[int, ...] | None = None
    mean_rate: float | None = None

    @property
    def values_per_voxel(self) -> float:
        """Feature values kept for each voxel of the input."""
        return self.tensor_rate if self.mean_rate is None else self.mean_rate

    @property
    def tensor_rate(self) -> float:
        """Numbers for each voxel in the layer's tensor, those of empty channels included."""
        positions = 1
        for step in self.stride:
            positions *= step
        return self.channels / positions

    @property
    def sparse(self) -> bool:
        """Whether channels are left empty (zero) at some positions."""
        return self.values_per_voxel < self.tensor_rate
