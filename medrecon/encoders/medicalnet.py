"""MedicalNet's 3D ResNets as they were trained: dilated, of stride 8 (Chen et al. 2019, arXiv:1904.00625)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from medrecon.contract import LayerInfo
from medrecon.encoders.residual import Plan, ResidualEncoder
from medrecon.encoders.staged import z_score
from medrecon.errors import ModelError

ZERO_SHORTCUT = {10: False, 18: True, 34: True, 50: False}
"""Depths, and whether their shortcuts are of type A: the table in MedicalNet's README."""


class MedicalNetEncoder(ResidualEncoder):
    """MedicalNet (Tencent; Med3D), frozen: `stem`, `layer1.0`, ... `layer1` ... `layer4`.

    Its third and fourth stage are dilated by 2 and 4 and keep stride 8. MONAI's ResNets take the same files
    without complaint and are other networks (other strides, no dilation). Shortcuts without weights (depths
    18 and 34) let gradients through here; in the original they cut them off.

    "volume" normalises as MedicalNet does: mean and standard deviation of the voxels above 0. Voxels at 0,
    which MedicalNet fills with random noise, stay what they are. Then every layer depends on the whole
    volume, and no receptive field is declared. Axes are taken as they come; MedicalNet's own data are
    (slices, rows, columns), resized to its input size.

    Args:
        depth: 10, 18, 34 or 50.
        weights: one of MedicalNet's files (`resnet_10.pth`, `resnet_10_23dataset.pth` ...; keys with or
            without `module.`; the segmentation head `conv_seg.*` may be there, and is not used), or the same
            as safetensors, or None for random weights.
        sha256: expected SHA-256 of that file, None for any.
        normalisation: "volume", or "none" for images that are normalised already.

    Raises:
        ModelError: unknown depth or normalisation, or weights that are not exactly this network's.
    """

    def __init__(
        self,
        depth: int = 10,
        weights: str | Path | None = None,
        sha256: str | None = None,
        normalisation: str = "volume",
    ) -> None:
        if depth not in ZERO_SHORTCUT:
            known = ", ".join(map(str, ZERO_SHORTCUT))
            raise ModelError(f"there is no MedicalNet of depth {depth} here", remedy=f"choose one of {known}")
        if normalisation not in ("volume", "none"):
            raise ModelError(f"there is no normalisation {normalisation!r}", remedy="choose volume or none")
        plan = Plan(3, 1, (1, 2, 1, 1), (1, 1, 2, 4), ZERO_SHORTCUT[depth])
        super().__init__(depth, plan, in_channels=(1,))
        self.normalisation = normalisation
        if weights is not None:
            self.load(weights, sha256, unused=("conv_seg.", "fc."))
        self.freeze()

    def layers(self) -> list[LayerInfo]:
        """The stem, the blocks and the stages, shallow to deep."""
        infos = super().layers()
        if self.normalisation == "none":
            return infos
        return [replace(info, receptive_field=None) for info in infos]

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """z-scored by the voxels above 0, or as it is."""
        return image if self.normalisation == "none" else z_score(image, image > 0, correction=0)
