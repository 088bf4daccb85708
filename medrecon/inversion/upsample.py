"""The ways up from one stride to a finer one, by any factor along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

from medrecon.errors import ModelError

UPSAMPLINGS = ("shuffle", "resize", "transposed")


def upsampler(kind: str, in_channels: int, out_channels: int, factor: Sequence[float]) -> nn.Module:
    """A learned way up: (B, in_channels, *size) -> (B, out_channels, *(size * factor)).

    Args:
        kind: "shuffle", each position becomes its own block of finer ones (sub-pixel convolution, Shi et al.
            2016, arXiv:1609.05158); "resize", linear interpolation and a convolution, free of checkerboards
            (Odena et al. 2016); "transposed", a convolution whose kernel is twice its stride.
        in_channels: of the coarse map.
        out_channels: of the fine one.
        factor: along each axis; whole numbers, but for "resize".

    Raises:
        ModelError: no such kind.
    """
    dims = len(factor)
    whole = [int(f) for f in factor]
    if kind == "shuffle":
        return Shuffle(in_channels, out_channels, whole)
    if kind == "resize":
        conv = Conv[Conv.CONV, dims]
        mode = "bilinear" if dims == 2 else "trilinear"
        scale = tuple(float(f) for f in factor)
        return nn.Sequential(
            conv(in_channels, out_channels, 1),
            nn.Upsample(scale_factor=scale, mode=mode),
            conv(out_channels, out_channels, 3, padding=1),
        )
    if kind == "transposed":
        kernel = tuple(max(3, 2 * f - f % 2) for f in whole)
        padding = tuple((k - f) // 2 for k, f in zip(kernel, whole, strict=True))
        return Conv[Conv.CONVTRANS, dims](in_channels, out_channels, kernel, tuple(whole), padding)
    raise ModelError(f"there is no upsampling {kind!r}", remedy=f"choose {', '.join(UPSAMPLINGS)}")


class Shuffle(nn.Module):
    """A convolution of kernel 1 whose channels become the positions of a finer grid.

    MONAI's and torch's pixel shuffles know one factor for all axes; scans have thick slices.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: Sequence[int], kernel: int = 1) -> None:
        super().__init__()
        self.factor = tuple(factor)
        conv = Conv[Conv.CONV, len(self.factor)]
        self.conv = conv(in_channels, out_channels * math.prod(self.factor), kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, *size) -> (B, out_channels, *(size * factor))."""
        return shuffle(self.conv(x), self.factor)


def shuffle(x: torch.Tensor, factor: Sequence[int]) -> torch.Tensor:
    """(B, C * prod(factor), *size) -> (B, C, *(size * factor))."""
    batch, size, dims = x.shape[0], x.shape[2:], len(factor)
    channels = x.shape[1] // math.prod(factor)
    x = x.reshape(batch, channels, *factor, *size)
    order = [axis for k in range(dims) for axis in (2 + dims + k, 2 + k)]
    return x.permute(0, 1, *order).reshape(
        batch, channels, *(n * f for n, f in zip(size, factor, strict=True))
    )


def unshuffle(x: torch.Tensor, factor: Sequence[int]) -> torch.Tensor:
    """The inverse of `shuffle`: (B, C, *(size * factor)) -> (B, C * prod(factor), *size)."""
    batch, channels, dims = x.shape[0], x.shape[1], len(factor)
    size = [n // f for n, f in zip(x.shape[2:], factor, strict=True)]
    x = x.reshape(batch, channels, *(k for pair in zip(size, factor, strict=True) for k in pair))
    order = [*(3 + 2 * k for k in range(dims)), *(2 + 2 * k for k in range(dims))]
    return x.permute(0, 1, *order).reshape(batch, channels * math.prod(factor), *size)


def fit_size(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Cut the far ends of (B, C, *positions) to `size`, or repeat them where positions are missing."""
    for axis, wanted in enumerate(size, start=2):
        x = x.narrow(axis, 0, min(wanted, x.shape[axis]))
    missing = [
        p for n, w in zip(reversed(x.shape[2:]), reversed(size), strict=True) for p in (0, max(0, w - n))
    ]
    return functional.pad(x, missing, mode="replicate") if any(missing) else x
