"""What is optimised in the place of an image: each a correction that starts at zero.

An optimiser that follows the gradient is blind to how the image is written down, and yet depends on it: in
pixels each step changes what one voxel sees, so that contrast over wide areas, which a deep layer hardly
tells, is found last. The others let wide areas move first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional

from medrecon.errors import UsageError

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Pixels(nn.Module):
    """Each voxel by itself.

    Args:
        shape: spatial size of the image.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, 1, *shape))

    def forward(self) -> torch.Tensor:
        """(1, 1, *shape)."""
        return self.values


class MultiScale(nn.Module):
    """A Laplacian pyramid: the sum of images of half the size each, interpolated (Burt & Adelson 1983).

    Args:
        shape: spatial size of the image.
        gain: how much further a level moves than the finer one below it.
        smallest: no level is smaller than this along an axis.
    """

    def __init__(self, shape: Sequence[int], gain: float = 1.4, smallest: int = 4) -> None:
        super().__init__()
        self.levels = nn.ParameterList()
        self.gain = gain
        size = tuple(shape)
        while not self.levels or min(size) >= smallest:
            self.levels.append(nn.Parameter(torch.zeros(1, 1, *size)))
            size = tuple(math.ceil(n / 2) for n in size)
            if size == self.levels[-1].shape[2:]:
                break
        self.mode = _LINEAR[len(shape)]

    def forward(self) -> torch.Tensor:
        """(1, 1, *shape)."""
        deepest = len(self.levels) - 1
        image = self.gain**deepest * self.levels[deepest]
        for number in reversed(range(deepest)):
            level = self.levels[number]
            image = functional.interpolate(image, level.shape[2:], mode=self.mode) + self.gain**number * level
        return image


class Fourier(nn.Module):
    """The spectrum, each frequency f scaled by a power of 1/f, so that wide areas move further.

    Source: Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017 (decorrelated parameterisation
    of Lucid, where the power is 1). On a CT and an MR slice 3/4 was best at VGG16's relu4_3 (by 2 and 0.6
    dB), 1/2 at shallower layers.

    Args:
        shape: spatial size of the image.
        power: of 1/f. Frequencies below one cycle per image count as that.
    """

    scale: torch.Tensor

    def __init__(self, shape: Sequence[int], power: float = 0.75) -> None:
        super().__init__()
        self.shape = tuple(shape)
        axes = [torch.fft.fftfreq(n) for n in self.shape[:-1]] + [torch.fft.rfftfreq(self.shape[-1])]
        squares = [
            f.square().reshape([-1 if a == k else 1 for a in range(len(axes))]) for k, f in enumerate(axes)
        ]
        frequency = (
            torch.stack(torch.broadcast_tensors(*squares)).sum(0).sqrt().clamp(min=1 / max(self.shape))
        )
        self.register_buffer("scale", (frequency.max() / frequency) ** power, persistent=False)
        self.spectrum = nn.Parameter(torch.zeros(1, 1, *frequency.shape, 2))  # real and imaginary part

    def forward(self) -> torch.Tensor:
        """(1, 1, *shape)."""
        axes = tuple(range(2, 2 + len(self.shape)))
        spectrum = torch.view_as_complex(self.spectrum) * self.scale
        return torch.fft.irfftn(spectrum, s=self.shape, dim=axes, norm="ortho")


class DeepPrior(nn.Module):
    """A small U-Net from fixed noise: what it can say soon looks like an image (Ulyanov et al. 2018).

    Its last layer starts at zero. Adam suits it, L-BFGS does not. Source: arXiv:1711.10925.

    Args:
        shape: spatial size of the image.
        channels: feature maps at each scale; there are as many scales as the image has room for.
        noise: channels of the noise.
    """

    noise: torch.Tensor

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int] = (32, 48, 64, 64), noise: int = 16
    ) -> None:
        super().__init__()
        scales = min(len(channels), max(2, int(math.log2(max(2, min(shape))))))
        unit = 2 ** (scales - 1)
        padded = [-(-n // unit) * unit for n in shape]
        self.shape = tuple(shape)
        self.register_buffer("noise", 0.1 * torch.randn(1, noise, *padded), persistent=False)
        self.net = UNet(
            spatial_dims=len(padded),
            in_channels=noise,
            out_channels=channels[0],
            channels=tuple(channels[:scales]),
            strides=(2,) * (scales - 1),
            num_res_units=1,
            norm=("GROUP", {"num_groups": 8}),  # of one image: there is no batch to take statistics of
        )
        self.out = nn.Linear(channels[0], 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self) -> torch.Tensor:
        """(1, 1, *shape)."""
        inside = (..., *(slice(n) for n in self.shape))
        return self.out(self.net(self.noise).movedim(1, -1)).movedim(-1, 1)[inside]


Parameterisation = Callable[[Sequence[int]], nn.Module]
"""Given the spatial size of an image, a module that makes one, (1, 1, *shape), all zero at first."""

PARAMETERISATIONS: dict[str, Parameterisation] = {
    "pixels": Pixels,
    "multiscale": MultiScale,
    "fourier": Fourier,
    "prior": DeepPrior,
}


def parameterisation(choice: str | Parameterisation) -> Parameterisation:
    """The parameterisation of this name, or what was given.

    Raises:
        UsageError: there is none of this name.
    """
    if not isinstance(choice, str):
        return choice
    if choice not in PARAMETERISATIONS:
        known = ", ".join(PARAMETERISATIONS)
        raise UsageError(f"there is no parameterisation '{choice}'", remedy=f"choose one of {known}")
    return PARAMETERISATIONS[choice]
