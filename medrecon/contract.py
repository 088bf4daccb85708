"""What an encoder and a decoder are: the two base classes, and what the rooms of the package exchange.

All that tiling, probing, feature files and the atlas ask of a network is declared here. A new encoder says
its `layers` and computes them in `forward`; a new decoder turns them into an image in `forward`. All else has
a default that is always right, if not always fast, and is overridden where a network can say better.
"""

from __future__ import annotations

import contextlib
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

Features = dict[str, torch.Tensor]
"""Layer name -> feature map, (B, C, *spatial / stride)."""

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all)."""


def untold(done: int, of: int) -> None:
    """The progress that nobody wants to know."""


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
        return self.channels / math.prod(self.stride)

    @property
    def sparse(self) -> bool:
        """Whether channels are left empty (zero) at some positions."""
        return self.values_per_voxel < self.tensor_rate


@dataclass(frozen=True)
class Allocation:
    """By what rule a layer leaves channels empty at some positions.

    Attributes:
        sets: (N, C) bool: the sets of channels of which a position keeps one.
        multiplier: the Lagrange multiplier of the rate: the squared error that one more value must save.
    """

    sets: torch.Tensor
    multiplier: float


class Encoder(ABC, nn.Module):
    """Base of the networks that turn an image into features.

    A subclass has `layers` and `forward`.

    Attributes:
        window: the spatial size that it must, or should, be given; None where any size will do.
        multiple: volumes are best cut on multiples of this along each axis, besides those of the strides.
        geometry: invertible MONAI transforms of the key `image`, to be run on the scan (source units, RAS)
            before its intensities are mapped to [0, 1]: the spacing, orientation and size that it expects.
        scale: the values, after `geometry`, that are 0 and 1 to it; None: those of every scan
            (`medrecon.transforms.ScanIntensity`).
        units: "HU" where its intensities are HU, and nothing else will do; "" where any will.
        channel_names: of the images that it takes as channels, in their order; () where it takes one scan.
        channels_needed: whether it must be given all of these; else one scan may be given to each.
        refused: tensors of the network that are no layers: name -> why.
        notes: what must be said of how it was made, one line each.
    """

    window: tuple[int, ...] | None = None
    multiple: tuple[int, ...] = ()
    geometry: Sequence[Any] = ()
    scale: tuple[float, float] | None = None
    units: str = ""
    channel_names: tuple[str, ...] = ()
    channels_needed: bool = False
    refused: Mapping[str, str] = MappingProxyType({})
    notes: Sequence[str] = ()

    @abstractmethod
    def layers(self) -> list[LayerInfo]:
        """The layers that can be named, shallow to deep."""

    @abstractmethod
    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of an image.

        Args:
            image: (B, C, *spatial), of any size unless there is a `window`, intensities in [0, 1] (values
                beyond are allowed). What the weights expect beyond that, the encoder does itself.
            names: layers to compute, in any order; all when None.

        Returns:
            Layer -> (B, channels, *ceil(spatial / stride)), or more positions at the far ends. A layer does
            not depend on which others are computed, nor an image on the rest of its batch.

        Raises:
            ModelError: a layer that does not exist, or an image of another form.
        """

    @functools.cached_property
    def spatial_dims(self) -> int:
        """2 for images and slices, 3 for volumes."""
        return len(self.layers()[0].stride)

    def measure(self) -> list[LayerInfo]:
        """The layers with their receptive fields, where finding these takes a while: seconds."""
        return self.layers()

    def conditioned_on(self, whole: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Within: images are taken as parts of this whole, whose statistics are held.

        For encoders whose features depend on the whole image by a few numbers (mean and deviation,
        percentiles, a budget): with these held, a tile's features are those of the whole. Most hold nothing.

        Args:
            whole: (1, C, *spatial); (slices, C, X, Y) is a volume before an encoder of slices.
        """
        return contextlib.nullcontext()

    @property
    def is_conditioned(self) -> bool:
        """Whether it is within `conditioned_on`, and holds something."""
        return False

    def allocations(self) -> dict[str, Allocation]:
        """The rule of each layer that leaves channels empty, as far as it is known by now."""
        return {}

    def fit(self, images: Iterable[torch.Tensor], seed: int = 0) -> None:
        """Fit what is not trained by gradients to typical images, before training; most have no such thing.

        Args:
            images: (1, C, *spatial) each.
            seed: of whatever is drawn.
        """
        return

    @property
    def unwrapped(self) -> Encoder:
        """The encoder whose weights these are, where this one freezes, caches or narrows another."""
        return self


class Decoder(ABC, nn.Module):
    """Base of what turns features back into an image. A subclass has `forward`.

    Attributes:
        names: the layers that it inverts, alone or joined; None for any of the encoder's.
        reach: input voxels beyond a block of the deepest stride, to either side, whose features its
            reconstruction depends on. None where that is the whole image, or unknown: then volumes go through
            in one piece.
        bytes_per_voxel: peak working memory of encoder and decoder for each voxel of a tile, in 3D.
        lossless: layers from which the image comes back to within rounding, untrained too.
        channels: images that it gives back, the first ones of what the encoder takes as channels.
    """

    names: Sequence[str] | None = None
    reach: int | None = None
    bytes_per_voxel: int = 64
    lossless: frozenset[str] = frozenset()
    channels: int = 1

    @abstractmethod
    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: one or more of the encoder's layers, as it gave them: which ones, the decoder says.
            shape: spatial size of the image wanted.
            progress: told how far it is, by decoders that take their time.

        Returns:
            (B, channels, *shape), float32, in the scale of the encoder's input.

        Raises:
            ModelError: no layer, an unknown one, or features of another form.
        """

    def fit(self, batches: Iterable[tuple[Features, torch.Tensor]]) -> None:
        """Fit what is not trained by gradients to typical images; most have no such thing.

        Args:
            batches: features of all layers, as the encoder gives them, and their images (B, 1, *spatial); may
                be gone through several times.
        """
        return

    @property
    def encoder_fingerprint(self) -> str:
        """Of the encoder's weights that it was trained for (`medrecon.encoders.fingerprint`); "": any."""
        return ""

    def remember(self, encoder_fingerprint: str) -> None:
        """Keep, with the weights, which encoder's features they are for; what holds for any keeps nothing."""
        return


class Generative(ABC, nn.Module):
    """Base of what draws, beside a decoder's one answer, others that the features leave open.

    What it draws is the residual: the image less what the deterministic decoder made of the features (the
    base). It says how large the residual is around each voxel (`scale`), and carries noise of variance one
    to a residual of variance one along `velocity`; who calls it makes the steps
    (`medrecon.inference.sampler.Sampler`).

    Attributes:
        results: those that it knows: "level4", "level3+level4".
        spatial_dims: 2 for slices, 3 for volumes.
        multiple: volumes are cut on multiples of this.
        reach: voxels around a block of that size on which one call depends.
        bytes_per_voxel: peak working memory of a call for each voxel.
    """

    results: Sequence[str] = ()
    spatial_dims: int
    multiple: int
    reach: int
    bytes_per_voxel: int = 128

    @abstractmethod
    def scale(self, base: torch.Tensor, result: str) -> torch.Tensor:
        """Standard deviation of the residual at each voxel, as far as the base tells it.

        Args:
            base: (B, 1, *spatial) of any size, in [0, 1].
            result: one of `results`.

        Returns:
            (B, 1, *spatial), above zero, float32.
        """

    @abstractmethod
    def velocity(
        self, noisy: torch.Tensor, base: torch.Tensor, noise: torch.Tensor, result: str
    ) -> torch.Tensor:
        """Where a mixture of residual and noise moves as its share of noise falls.

        Args:
            noisy: (1 - noise) * residual / scale + noise * white noise, (B, 1, *spatial).
            base: as for `scale`.
            noise: the share of noise, (B,), from 1 (noise alone) to 0.
            result: one of `results`.

        Returns:
            The expected residual / scale less the white noise, (B, 1, *spatial), float32.
        """

    def residual(self, drawn: torch.Tensor, base: torch.Tensor, result: str) -> torch.Tensor:
        """The residual, (B, 1, *spatial), of what `velocity` made of noise.

        Args:
            drawn: (B, 1, *spatial), of variance one.
            base: as for `scale`.
            result: one of `results`.
        """
        return drawn * self.scale(base, result)

    @property
    def network_fingerprint(self) -> str:
        """Of the encoder and decoder that it was trained beside (`blocks.weights.fingerprint`); "": any."""
        return ""
