"""A frozen 2D encoder of a few weights, read from a file; and a 3D one whose layer sees the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from medrecon.contract import Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.encoders import Frozen, fit_weights, read_weights


class TinyFrozen(Frozen):
    """Layers `fine` (stride 2) and `coarse` (stride 4)."""

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 4, 2, stride=2), nn.Conv2d(4, 6, 2, stride=2)
        if weights is not None:
            fit_weights(self, read_weights(weights), weights)
        self.freeze()

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("fine", 4, (2, 2), (2, 2)), LayerInfo("coarse", 6, (4, 4), (4, 4))]

    def forward(self, image: torch.Tensor, names: list[str] | None = None) -> Features:
        image = functional.pad(image, (0, -image.shape[-1] % 4, 0, -image.shape[-2] % 4), mode="replicate")
        fine = self.fine(image).relu()
        found = {"fine": fine, "coarse": self.coarse(fine).relu()}
        return {name: found[name] for name in names or found}


class Global(Encoder):
    """Layer `norm`: means of blocks over the deviation of the whole image; `window` can be set."""

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("norm", 1, (2, 2, 2))]

    def forward(self, image: torch.Tensor, names: list[str] | None = None) -> Features:
        return {"norm": functional.avg_pool3d(image / image.std(), 2, ceil_mode=True)}


class Back(Decoder):
    """Repeats the features; its reach is not said."""

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        up = functional.interpolate(next(iter(features.values())), scale_factor=2)
        return up[..., : shape[0], : shape[1], : shape[2]]
