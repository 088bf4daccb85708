"""One decoder for any layers of any encoder: built from their channels and strides, fused on the way up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

from medrecon.blocks.convolutions import ACTIVATIONS, ResidualBlock
from medrecon.contract import Features, LayerInfo, Progress
from medrecon.errors import ModelError
from medrecon.inversion.given import features_given, layers_to_invert
from medrecon.inversion.linear import Batches, LinearInverse, Standardised, fit_inverses, measure_scales
from medrecon.inversion.made_for import MadeFor
from medrecon.inversion.single import stages
from medrecon.inversion.upsample import Shuffle, fit_size, unshuffle, upsampler

Stride = tuple[int, ...]

OUTPUTS = ("linear", "sigmoid")

STEP = 0.1
"""What is learned is added at this scale: an optimizer's first steps must not bury the linear inverse."""


class FusionDecoder(MadeFor):
    """Inverts any subset of an encoder's layers, of any strides, in 2D or 3D, with one set of weights.

    It starts from the linear inverse of the shallowest layer given, fitted in closed form (`fit`), and adds
    what it learned: from the deepest layer given it climbs, stage by stage, to the image, takes in each
    shallower layer that is given on the way, and at last sees the linear inverse. Where a layer comes in,
    what came from below is scaled by a gate that starts at zero: a deep layer is listened to only as far as
    that was found to help. Untrained, the decoder is the linear inverse.

    Features are brought to mean 0 and variance 1 by fixed numbers for each channel (`fit`), never by
    statistics of the window; the receptive field is finite.

    Args:
        layers: the layers to invert, as the encoder declares them (its whole list, or some).
        names: which of them; all when None.
        widths: channels of the stages at strides 1, 2, 4, ... ; the last one holds for all deeper ones.
        depth: residual blocks of a stage.
        upsampling: "shuffle", "resize" or "transposed" (`upsampler`).
        output: "linear", or "sigmoid" to keep the result in (0, 1); what lies outside the intensity window
            is then out of reach.
        activation: of the blocks: "relu", "leaky_relu", "gelu" or "silu".

    Raises:
        ModelError: no layer, a layer that is not there, layers of different dimensions, or an unknown choice.
    """

    names: list[str]

    def __init__(
        self,
        layers: Sequence[LayerInfo],
        names: Sequence[str] | None = None,
        widths: Sequence[int] = (32, 64, 96, 160, 256),
        depth: int = 2,
        upsampling: str = "shuffle",
        output: str = "linear",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        chosen = layers_to_invert(layers, names)
        if len({len(info.stride) for info in chosen}) > 1:
            raise ModelError("these layers differ in their number of axes", remedy="invert them one by one")
        if output not in OUTPUTS:
            raise ModelError(f"there is no output {output!r}", remedy=f"choose {' or '.join(OUTPUTS)}")
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ModelError(f"there is no activation {activation!r}", remedy=f"choose {known}")
        if not widths or min(widths) < 1 or depth < 0:
            raise ModelError(f"widths {tuple(widths)}, depth {depth}", remedy="give positive widths")
        self.infos = {info.name: info for info in chosen}
        self.names = list(self.infos)
        self.spatial_dims = len(chosen[0].stride)
        self.output = output
        self.strides = stage_strides([info.stride for info in chosen])
        wide = {stride: _width(stride, widths) for stride in self.strides}
        self._keys = {info.name: f"layer{number}" for number, info in enumerate(chosen)}
        self.inputs = nn.ModuleDict(
            {self._keys[info.name]: FeatureInput(info, wide[info.stride]) for info in chosen}
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualBlock(self.spatial_dims, wide[stride], bias=True, activation=activation)
                    for _ in range(depth)
                )
            )
            for stride in self.strides
        )
        self.climb = nn.ModuleList(
            _climb(upsampling, wide, coarse, fine)
            for coarse, fine in zip(self.strides, self.strides[1:], strict=False)
        )
        entered = {info.stride for info in chosen}
        self.gates = nn.ParameterDict(
            {str(k): torch.zeros(wide[s]) for k, s in enumerate(self.strides) if k > 0 and s in entered}
        )
        finest = self.strides[-1]
        self.linear = nn.ModuleDict({self._keys[info.name]: LinearInverse(info) for info in chosen})
        self.look = Conv[Conv.CONV, self.spatial_dims](math.prod(finest), wide[finest], 3, padding=1)
        self.head = Shuffle(wide[finest], 1, finest, kernel=3)
        nn.init.zeros_(self.head.conv.weight)
        nn.init.zeros_(self.head.conv.bias)
        overlap = {"shuffle": 0, "resize": 2, "transposed": 1}[upsampling]
        # Positions that a stage looks aside: its input, its blocks, its way up, and the head's convolution.
        beyond = sum((depth + 1 + overlap) * max(stride) for stride in self.strides) + max(self.strides[-1])
        self.reach = beyond + max(self.strides[0])

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: any non-empty subset of the layers, (B, C, *positions), or (B, C) for a latent vector.
            shape: spatial size of the image wanted.

        Returns:
            (B, 1, *shape), float32, in the scale of the encoder's input.

        Raises:
            ModelError: no layer, an unknown one, or features of another form.
        """
        maps = features_given(features, self.infos)
        given = {name: self._normalised(name, value) for name, value in maps.items()}
        x: torch.Tensor | None = None
        size = _padded(given, self.infos)
        shallow = min(given, key=lambda name: math.prod(self.infos[name].stride))
        base = fit_size(self.linear[self._keys[shallow]](given[shallow]), _blocks(size, self.strides[-1]))
        for index, stride in enumerate(self.strides):
            here = [name for name in given if self.infos[name].stride == stride]
            entering: Any = sum(self.inputs[self._keys[name]](given[name]) for name in here) if here else None
            if x is not None:
                if entering is None:
                    entering = fit_size(x, [math.ceil(n / s) for n, s in zip(size, stride, strict=True)])
                else:
                    gate = self.gates[str(index)].view(1, -1, *(1,) * self.spatial_dims)
                    entering = entering + gate * fit_size(x, entering.shape[2:])
            if entering is None:
                continue
            if index == len(self.climb):
                seen = unshuffle(base, stride)
                entering = fit_size(entering, seen.shape[2:]) + self.look(seen.to(entering.dtype))
            x = self.blocks[index](entering)
            if index < len(self.climb):
                x = self.climb[index](x)
        image = base + STEP * self.head(x).float()
        image = torch.sigmoid(4 * image - 2) if self.output == "sigmoid" else image
        return fit_size(image, tuple(shape))

    def fit(self, batches: Batches) -> None:
        """Fit what is not trained, the scale of each channel and the linear inverses, to typical images.

        Args:
            batches: features of all layers, as the encoder gives them, and their images (B, 1, *spatial).
                Gone through several times; what is held does not depend on their number.

        Raises:
            ModelError: no batch, or features that are not finite.
        """
        scales: dict[str, Any] = {name: self.inputs[key] for name, key in self._keys.items()}
        inverses: dict[str, Any] = {name: self.linear[key] for name, key in self._keys.items()}
        measure_scales(scales, batches)
        fit_inverses(inverses, batches, self._normalised)

    def _normalised(self, name: str, value: torch.Tensor) -> torch.Tensor:
        entrance: Any = self.inputs[self._keys[name]]
        scaled: torch.Tensor = entrance.standardise(value)
        return scaled


class FeatureInput(Standardised):
    """Features of one layer, brought to a common scale and to the width of their stage."""

    def __init__(self, info: LayerInfo, width: int) -> None:
        super().__init__(info)
        self.conv = Conv[Conv.CONV, len(info.stride)](info.channels, width, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalised, (B, C, *positions) -> (B, width, *positions)."""
        # Repeated, not zero: a border of zeros would read as features of the mean image.
        x = functional.pad(features, (1,) * (2 * (features.ndim - 2)), mode="replicate")
        out: torch.Tensor = self.conv(x)
        return out


def stage_strides(strides: Sequence[Stride]) -> list[Stride]:
    """The strides that a decoder climbs through, coarse to fine: those given, and steps of primes between.

    The last one is the finest given where that is small; the head does what is left to the image, one step.

    Example:
        >>> stage_strides([(4, 4), (16, 16)])
        [(16, 16), (8, 8), (4, 4), (2, 2)]
    """
    found = sorted(set(strides), key=lambda s: (math.prod(s), s), reverse=True)
    path: list[Stride] = []
    for coarse, fine in zip(found, [*found[1:], (1,) * len(found[0])], strict=True):
        path.append(coarse)
        if any(c % f for c, f in zip(coarse, fine, strict=True)):
            continue
        steps = stages([c // f for c, f in zip(coarse, fine, strict=True)])
        now = coarse
        for step in steps[:-1]:
            now = tuple(n // s for n, s in zip(now, step, strict=True))
            path.append(now)
    return path


def _width(stride: Stride, widths: Sequence[int]) -> int:
    """Channels of a stage: one entry for each doubling of the stride, averaged over the axes."""
    octave = round(math.log2(math.prod(stride)) / len(stride))
    return widths[min(octave, len(widths) - 1)]


def _climb(kind: str, wide: Mapping[Stride, int], coarse: Stride, fine: Stride) -> nn.Module:
    """From one stage to the next; by interpolation where the strides are no multiples of each other."""
    if any(c % f for c, f in zip(coarse, fine, strict=True)):
        scale = [c / f for c, f in zip(coarse, fine, strict=True)]
        return upsampler("resize", wide[coarse], wide[fine], scale)
    return upsampler(kind, wide[coarse], wide[fine], [c // f for c, f in zip(coarse, fine, strict=True)])


def _padded(features: Features, infos: Mapping[str, LayerInfo]) -> list[int]:
    """The size of the image that the encoder saw, padding included, as far as the features tell."""
    sizes = [
        [n * s for n, s in zip(value.shape[2:], infos[name].stride, strict=True)]
        for name, value in features.items()
    ]
    return [min(axis) for axis in zip(*sizes, strict=True)]


def _blocks(size: Sequence[int], stride: Stride) -> list[int]:
    """The size rounded up to whole strides."""
    return [math.ceil(n / s) * s for n, s in zip(size, stride, strict=True)]
