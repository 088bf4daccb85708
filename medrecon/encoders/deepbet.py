"""The encoder of deepbet, which finds the brain in T1-weighted MRI (Fisch et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from medrecon.blocks.weights import fit_weights, read_weights
from medrecon.contract import LayerInfo
from medrecon.encoders.staged import StagedEncoder, z_score

CHANNELS = (16, 32, 64, 128)

DECODER = ("up", "tp_conv", "conv.")
"""Beginnings of the keys of the half that is not used here."""


class DeepbetEncoder(StagedEncoder):
    """The encoder half of deepbet's LinkNet3d, frozen: `stem` (stride 2), `down0` ... `down3` (4 to 32).

    deepbet: Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural
    networks", Computers in Biology and Medicine 179, 2024; package deepbet, MIT licence. A 3D ResNet-18 of
    16 to 128 channels with instance norms, so every layer depends on the whole image: no receptive field is
    declared. It was trained on whole heads resized to 128 x 128 x 128 voxels (nearest neighbour), axes left
    to right, posterior to anterior, inferior to superior (RAS+). Any other size runs, and is another
    distribution; where a layer has one position left, it is zero.

    It owns its normalisation: the robust range of the scan (0.5 to 99.5 percentile, which comes in as 0 to 1)
    is clipped, the volume brought to zero mean and unit standard deviation, then to 0.226 x + 0.449.

    Args:
        weights: a safetensors or torch file with LinkNet3d's keys (its decoder may be there, and is not
            used), or None for random weights.
        sha256: expected SHA-256 of that file, None for any.

    Raises:
        ModelError: weights that are not exactly this network's.
    """

    def __init__(self, weights: str | Path | None = None, sha256: str | None = None) -> None:
        super().__init__(3, (1,))
        # The names, and the places in each Sequential, are those of the original state dict.
        self.init = nn.Sequential(
            nn.Conv3d(1, CHANNELS[0], 7, stride=2, padding=3, bias=False),
            _Norm(),
            nn.ReLU(),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        last = CHANNELS[0]
        for number, channels in enumerate(CHANNELS):
            self.add_module(f"down{number}", _Down(last, channels, stride=1 if number == 0 else 2))
            last = channels
        if weights is not None:
            fit_weights(self, read_weights(weights, sha256), weights, unused=DECODER)
        self.freeze()

    def layers(self) -> list[LayerInfo]:
        """The stem and the four stages, shallow to deep."""
        stem = LayerInfo("stem", CHANNELS[0], (2, 2, 2))
        return [stem, *(LayerInfo(f"down{k}", width, (4 << k,) * 3) for k, width in enumerate(CHANNELS))]

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Clipped to the robust range, z-scored over the volume, shifted as in deepbet's training."""
        return 0.226 * z_score(image.clamp(0, 1)) + 0.449

    def stages(self) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
        """The stem, its pooling, and the four stages."""
        yield ("stem",), self.init[:3]
        yield (), self.init[3]
        for number in range(4):
            yield (f"down{number}",), self.get_submodule(f"down{number}")


class _Norm(nn.Module):
    """Instance norm without parameters; a single position, which torch refuses, becomes zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x[0, 0].numel() == 1:
            return x - x
        return functional.instance_norm(x)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, as in ResNet-18."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv3d(before, channels, 3, stride=stride, padding=1, bias=False),
            _Norm(),
            nn.ReLU(),
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            _Norm(),
        )
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, channels, 1, stride=stride, bias=False), _Norm()
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.double_conv(x) + self.downsample(x))


class _Down(nn.Module):
    """A stage of two blocks, of which the first may halve the resolution."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.block1 = _Block(before, channels, stride)
        self.block2 = _Block(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block2(self.block1(x))
