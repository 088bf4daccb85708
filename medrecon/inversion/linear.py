"""The linear inverse of a layer, fitted in closed form: what is had without training, and where it starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medrecon.contract import Features, LayerInfo
from medrecon.errors import ModelError
from medrecon.inversion.moments import Moments, best_ridge
from medrecon.inversion.upsample import fit_size, shuffle, unshuffle

MOST_INPUTS = 2500
"""Above this many numbers for each position only the position itself is seen, not its neighbours; and where
it holds more channels, random mixtures of them."""

MOST_OUTPUTS = 512
"""At most so many voxels are made of a position; a larger block is made coarser, and interpolated."""

ROWS = 512
"""Positions of a batch that are looked at, or half as many as there are unknowns."""

ASIDE = 5
"""Each fifth batch is kept aside, and the strength of the ridge chosen on it."""

MOST_BYTES = 1 << 29
"""Of the sums that are gathered in one pass over the images; more layers take more passes."""

_ROUNDING = 1e-7
"""Deviations that are so small a share of their layer's means are rounding."""

Batches = Iterable[tuple[Features, torch.Tensor]]


class Standardised(nn.Module):
    """Channels brought to mean 0 and variance 1 by fixed numbers.

    Args:
        info: the layer.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, info: LayerInfo) -> None:
        super().__init__()
        shape = (1, info.channels, *(1,) * len(info.stride))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def standardise(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, *positions), in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return (x.float() - self.mean) * self.scale


class LinearInverse(nn.Module):
    """Each position of a layer, with its neighbours, makes its own block of voxels; nothing is trained.

    Ridge regression. Until `fit_inverses` it gives 0. A position is seen with its neighbours (3 along each
    axis) where that makes at most `MOST_INPUTS` numbers, alone where it makes more; of a layer of more
    channels than that, so many random mixtures are seen (Johnson & Lindenstrauss 1984).

    Args:
        info: the layer.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    mixtures: torch.Tensor | None

    def __init__(self, info: LayerInfo) -> None:
        super().__init__()
        dims = len(info.stride)
        self.stride = info.stride
        self.kernel = 3 if info.channels * 3**dims <= MOST_INPUTS else 1
        self.cells = cells_of(info.stride)
        self.channels = min(info.channels, MOST_INPUTS)
        self.outputs = math.prod(self.cells)
        self.register_buffer("weight", torch.zeros(self.outputs, self.channels, *(self.kernel,) * dims))
        self.register_buffer("bias", torch.zeros(self.outputs))
        mixtures = None
        if info.channels > self.channels:
            generator = torch.Generator().manual_seed(0)
            mixtures = torch.randn(self.channels, info.channels, generator=generator) / info.channels**0.5
            mixtures = mixtures.view(*mixtures.shape, *(1,) * dims)
        self.register_buffer("mixtures", mixtures)

    @property
    def reach(self) -> int:
        """Voxels beyond a position's block that are made with it."""
        finer = max(s // c for s, c in zip(self.stride, self.cells, strict=True))
        return self.kernel // 2 * max(self.stride) + (finer if finer > 1 else 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised features (B, C, *positions) -> (B, 1, *(positions * stride)), float32."""
        conv = _convolution(x)
        with torch.autocast(x.device.type, enabled=False):
            blocks = conv(self._seen(x.float()), self.weight, self.bias)
            image = shuffle(blocks, self.cells)
            size = [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)]
            if list(image.shape[2:]) == size:
                return image
            mode = "bilinear" if x.ndim == 4 else "trilinear"
            return functional.interpolate(image, size=size, mode=mode, align_corners=False)

    def moments(self, device: torch.device) -> Moments:
        """Sums to gather, still empty."""
        return Moments(self.weight[0].numel(), self.outputs, device)

    def gather(self, moments: Moments, x: torch.Tensor, image: torch.Tensor) -> None:
        """Add what some positions see, and their blocks: of normalised features and of their images."""
        moments.add(*self._rows(x.float(), image.float(), max(ROWS, moments.inputs // 2)))

    def solve(self, seen: Moments, aside: Moments) -> None:
        """Take the ridge regression of what was seen that is best on what was kept aside.

        Raises:
            ModelError: the features are not finite.
        """
        weight, bias = best_ridge(seen, aside)
        self.weight.copy_(weight.T.reshape(self.weight.shape))
        self.bias.copy_(bias)

    def _seen(self, x: torch.Tensor) -> torch.Tensor:
        """The numbers of each position, its neighbours beyond the border repeated."""
        x = x if self.mixtures is None else _convolution(x)(x, self.mixtures)
        margin = self.kernel // 2
        return functional.pad(x, (margin,) * (2 * (x.ndim - 2)), mode="replicate") if margin else x

    def _rows(self, x: torch.Tensor, image: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Some positions, spread evenly: what each sees, (N, inputs), and its block, (N, outputs)."""
        size = [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        target = fit_size(image, size)
        rest = [s // c for s, c in zip(self.stride, self.cells, strict=True)]
        if max(rest) > 1:
            pool = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
            target = pool(target, rest)
        blocks = unshuffle(target, self.cells)
        windows: Any = self._seen(x)
        for axis in range(2, x.ndim):
            windows = windows.unfold(axis, self.kernel, 1)
        total = x.shape[0] * math.prod(x.shape[2:])
        flat = torch.linspace(0, total - 1, min(most, total), device=x.device).round().long()
        where = torch.unravel_index(flat, (x.shape[0], *x.shape[2:]))
        index: Any = (where[0], slice(None), *where[1:])
        return windows[index].flatten(1), blocks[index]


def measure_scales(scales: Mapping[str, Standardised], batches: Batches, most: int | None = None) -> None:
    """Set mean and scale of each channel; one that hardly varies is not blown up.

    Args:
        scales: layer -> what is set.
        batches: features of all layers (B, C, *positions), and their images.
        most: batches to look at; all when None.

    Raises:
        ModelError: nothing was given, or the features are not finite.
    """
    centres: dict[str, torch.Tensor] = {}
    sums: dict[str, torch.Tensor] = {}
    for features, _ in itertools.islice(batches, most):
        for name in scales:
            values = features[name].float().transpose(0, 1).flatten(1)
            if name not in sums:  # what lies far from 0 has few digits left for its square
                centres[name] = values.mean(1, keepdim=True)
                sums[name] = torch.zeros(3, len(values), dtype=torch.float64, device=values.device)
            values = values - centres[name]
            of_batch = (torch.full_like(values[:, 0], values.shape[1]), values.sum(1), values.square().sum(1))
            sums[name] += torch.stack(of_batch)
    if not sums:
        raise ModelError("there are no features to fit an inverse to", remedy="give training images")
    for name, scale in scales.items():
        count, total, square = sums[name]
        mean = total / count
        deviation = ((square - total * mean) / (count - 1).clamp(min=1)).clamp(min=0).sqrt()
        if not bool(torch.isfinite(deviation).all()):
            raise ModelError(f"features of {name} are not finite", remedy="check the encoder and its weights")
        middle = mean + centres[name][:, 0]
        floor = 0.1 * deviation.square().mean().sqrt() + _ROUNDING * middle.square().mean().sqrt()
        known = float(floor) > 0  # a layer that is silent on all images stays as it is
        width = deviation.clamp(min=float(floor)) if known else torch.ones_like(deviation)
        scale.mean.copy_(middle.view_as(scale.mean))
        scale.scale.copy_((1 / width).view_as(scale.scale))


def fit_inverses(
    inverses: Mapping[str, LinearInverse],
    batches: Batches,
    normalise: Callable[[str, torch.Tensor], torch.Tensor],
) -> None:
    """Fit the linear inverses of layers to typical images.

    What is held meanwhile depends on the layers' channels, not on the number of images.

    Args:
        inverses: layer -> its inverse.
        batches: features of all layers, as the encoder gives them, and their images (B, 1, *spatial); gone
            through more than once where there are many layers. Each fifth is kept aside.
        normalise: (layer, features) -> the same, standardised.

    Raises:
        ModelError: nothing was given, or the features are not finite.
    """
    for group in _groups(inverses):
        sums: dict[str, tuple[Moments, Moments]] = {}
        for number, (features, image) in enumerate(batches):
            for name in group:
                if name not in sums:
                    device = features[name].device
                    sums[name] = inverses[name].moments(device), inverses[name].moments(device)
                kept = sums[name][is_aside(number)]
                inverses[name].gather(kept, normalise(name, features[name]), image)
        if not sums:
            raise ModelError("there are no features to fit an inverse to", remedy="give training images")
        for name, (seen, aside) in sums.items():
            inverses[name].solve(seen, aside)


def is_aside(number: int) -> bool:
    """Whether a batch is kept aside, to choose on it."""
    return number % ASIDE == ASIDE - 1


def _groups(inverses: Mapping[str, LinearInverse]) -> Iterator[list[str]]:
    """Layers whose sums fit into memory together."""
    group: list[str] = []
    held = 0
    for name, inverse in inverses.items():
        inputs = inverse.weight[0].numel() + 1
        size = 2 * 8 * inputs * (inputs + inverse.outputs)
        if group and held + size > MOST_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    yield group


def cells_of(stride: Sequence[int]) -> tuple[int, ...]:
    """How many voxels along each axis are made of one position: the stride, or a part of it."""
    cells = list(stride)
    while math.prod(cells) > MOST_OUTPUTS:
        axis = cells.index(max(cells))
        divisor = next(d for d in range(2, cells[axis] + 1) if cells[axis] % d == 0)
        cells[axis] //= divisor
    return tuple(cells)


def _convolution(x: torch.Tensor) -> Callable[..., torch.Tensor]:
    return functional.conv2d if x.ndim == 4 else functional.conv3d
