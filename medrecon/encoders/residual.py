"""Residual networks in 2D and 3D (He et al. 2016, arXiv:1512.03385), their parts named as in torchvision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn
from torch.nn import functional

from medrecon.blocks.weights import fit_weights, read_weights
from medrecon.contract import LayerInfo
from medrecon.encoders.staged import StagedEncoder
from medrecon.errors import ModelError

DEPTHS: dict[int, tuple[bool, tuple[int, int, int, int]]] = {
    10: (False, (1, 1, 1, 1)),
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
}
"""Depth -> whether its blocks are bottlenecks, and how many each of the four stages has."""


@dataclass(frozen=True)
class Plan:
    """What sets one family of residual networks apart from another.

    Attributes:
        spatial_dims: 2 or 3.
        channels: of the image as the first convolution takes it.
        strides: of the first block in each of the four stages.
        dilations: of the 3-wide convolutions in each stage.
        zero_shortcut: shortcuts between widths are filled up with zeros (type A) and have no weights; else
            they are convolutions (type B).
    """

    spatial_dims: int
    channels: int
    strides: tuple[int, int, int, int] = (1, 2, 2, 2)
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1)
    zero_shortcut: bool = False


class ResidualEncoder(StagedEncoder):
    """Base of the residual networks, frozen: `stem` (before the pooling), each block, each stage.

    `layer1.0` is the first block of the first stage; `layer1` the end of that stage, which is its last block.

    Args:
        depth: a key of `DEPTHS`.
        plan: the family.
        in_channels: channels that an image may have.

    Raises:
        ModelError: a depth that is not there.
    """

    def __init__(self, depth: int, plan: Plan, in_channels: tuple[int, ...]) -> None:
        super().__init__(plan.spatial_dims, in_channels)
        if depth not in DEPTHS:
            known = ", ".join(map(str, DEPTHS))
            raise ModelError(f"there is no ResNet-{depth} here", remedy=f"choose a depth of {known}")
        dims = plan.spatial_dims
        bottleneck, counts = DEPTHS[depth]
        self.conv1 = Conv[Conv.CONV, dims](plan.channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = Norm[Norm.BATCH, dims](64)
        self.maxpool = Pool[Pool.MAX, dims](3, stride=2, padding=1)
        self._infos = [LayerInfo("stem", 64, (2,) * dims, (7,) * dims)]
        self._counts = counts
        last, stride, field = 64, 4, 11
        for stage, count in enumerate(counts):
            width, dilation = 64 << stage, plan.dilations[stage]
            blocks = nn.Sequential()
            for index in range(count):
                step = plan.strides[stage] if index == 0 else 1
                block = (_Bottleneck if bottleneck else _Basic)(plan, last, width, step, dilation)
                blocks.append(block)
                field, stride, last = block.field(field, stride), stride * step, block.channels
                self._declare(f"layer{stage + 1}.{index}", last, stride, field)
            self._declare(f"layer{stage + 1}", last, stride, field)
            self.add_module(f"layer{stage + 1}", blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def layers(self) -> list[LayerInfo]:
        """The stem, the blocks and the stages, shallow to deep."""
        return list(self._infos)

    def stages(self) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
        """The stem, its pooling, and block after block."""
        yield ("stem",), nn.Sequential(self.conv1, self.bn1, nn.ReLU())
        yield (), self.maxpool
        for stage, count in enumerate(self._counts, start=1):
            for index in range(count):
                name = f"layer{stage}.{index}"
                labels = (name, f"layer{stage}") if index == count - 1 else (name,)
                yield labels, self.get_submodule(name)

    def load(self, path: str | Path, sha256: str | None, unused: tuple[str, ...]) -> None:
        """Take the weights of a file, whose keys may begin with `module.` (it was trained in parallel).

        Raises:
            ModelError: weights that are not exactly this network's.
        """
        weights = without_prefix(read_weights(path, sha256), "module.")
        # Files from before PyTorch 0.4.1 do not count batches; in evaluation nothing reads the count.
        counts = {k: v for k, v in self.state_dict().items() if k.endswith("num_batches_tracked")}
        fit_weights(self, {**counts, **weights}, path, unused=unused)

    def _declare(self, name: str, channels: int, stride: int, field: int) -> None:
        dims = self.spatial_dims
        self._infos.append(LayerInfo(name, channels, (stride,) * dims, (field,) * dims))


def without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The same weights, their keys without `prefix` if all have it."""
    if not all(key.startswith(prefix) for key in weights):
        return dict(weights)
    return {key[len(prefix) :]: value for key, value in weights.items()}


class _Block(nn.Module):
    """Convolutions beside a shortcut."""

    def __init__(self, plan: Plan, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.downsample: nn.Module = nn.Identity()
        if (stride != 1 or before != channels) and plan.zero_shortcut:
            self.downsample = _ZeroFilled(channels - before, stride)
        elif stride != 1 or before != channels:
            conv = Conv[Conv.CONV, plan.spatial_dims](before, channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, Norm[Norm.BATCH, plan.spatial_dims](channels))


class _Basic(_Block):
    """Two convolutions."""

    def __init__(self, plan: Plan, before: int, width: int, stride: int, dilation: int) -> None:
        super().__init__(plan, before, width, stride)
        conv, norm = Conv[Conv.CONV, plan.spatial_dims], Norm[Norm.BATCH, plan.spatial_dims]
        wide = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = conv(before, width, 3, stride=stride, **wide)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, **wide)
        self.bn2 = norm(width)
        self._stride, self._dilation = stride, dilation

    def field(self, before: int, stride: int) -> int:
        """Receptive field after this block, from that before it at `stride`."""
        return before + 2 * self._dilation * stride * (1 + self._stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self.downsample(x))


class _Bottleneck(_Block):
    """One convolution between two that change the width; it holds the stride ("v1.5"), as in torchvision."""

    def __init__(self, plan: Plan, before: int, width: int, stride: int, dilation: int) -> None:
        super().__init__(plan, before, 4 * width, stride)
        conv, norm = Conv[Conv.CONV, plan.spatial_dims], Norm[Norm.BATCH, plan.spatial_dims]
        self.conv1 = conv(before, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(width)
        self.conv3 = conv(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self._dilation = dilation

    def field(self, before: int, stride: int) -> int:
        """Receptive field after this block, from that before it at `stride`."""
        return before + 2 * self._dilation * stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.bn1(self.conv1(x)))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        return torch.relu(self.bn3(self.conv3(hidden)) + self.downsample(x))


class _ZeroFilled(nn.Module):
    """Every stride-th position, with channels of zeros added; gradients flow through it."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = added, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[(slice(None), slice(None), *(slice(None, None, self.stride),) * (x.ndim - 2))]
        return functional.pad(x, [0, 0] * (x.ndim - 2) + [0, self.added])
