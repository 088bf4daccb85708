"""A decoder that nobody trains: the linear inverse of each layer, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from medrecon.contract import Features, LayerInfo, Progress
from medrecon.inversion.given import features_given, layers_to_invert
from medrecon.inversion.linear import (
    Batches,
    LinearInverse,
    Standardised,
    fit_inverses,
    is_aside,
    measure_scales,
)
from medrecon.inversion.made_for import MadeFor
from medrecon.inversion.upsample import fit_size

_MEASURED = 4
"""Batches that the channels' scales are taken from."""


class LinearDecoder(MadeFor):
    """Inverts any subset of a network's layers by linear maps: a lower bound of what they keep.

    Each position of a layer makes its own block of voxels (`LinearInverse`). Several layers give the weighted
    sum of their images that is best for that very subset. What a layer keeps in a way that no linear map of a
    position and its neighbours can read is not seen: a trained decoder finds more.

    Nothing here has a gradient to learn from; all of it is set by `fit`.

    Args:
        layers: the layers, as the encoder declares them.
        names: which of them; all when None.

    Raises:
        ModelError: no layer, or one that is not there.
    """

    names: list[str]
    together: torch.Tensor
    means: torch.Tensor

    def __init__(self, layers: Sequence[LayerInfo], names: Sequence[str] | None = None) -> None:
        super().__init__()
        chosen = layers_to_invert(layers, names)
        self.infos = {info.name: info for info in layers if info in chosen}
        self.names = list(self.infos)
        self.spatial_dims = len(layers[0].stride)
        self.scales, self.linear = nn.ModuleList(), nn.ModuleList()
        for info in self.infos.values():
            self.scales.append(Standardised(info))
            self.linear.append(LinearInverse(info))
        count = len(self.names) + 1
        self.register_buffer("means", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("together", torch.zeros(count, count, dtype=torch.float64))
        self.reach = max(self._inverse(name).reach for name in self.names)

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind the features.

        Args:
            features: any non-empty subset of the layers, (B, C, *positions), or (B, C) for a latent vector.
            shape: spatial size of the image wanted.
            progress: not told: it takes a moment.

        Returns:
            (B, 1, *shape), float32, in the scale of the encoder's input.

        Raises:
            ModelError: no layer, an unknown one, or features of another form.
        """
        maps = features_given(features, self.infos)
        images = {name: self._image(name, value, shape) for name, value in maps.items()}
        if len(images) == 1:
            return next(iter(images.values()))
        places = [self.names.index(name) for name in images]
        weights = self._weights(places)
        means = self.means[[*places, -1]].float()
        parts = [w * (image - m) for w, image, m in zip(weights, images.values(), means, strict=False)]
        return torch.stack(parts).sum(0) + means[-1]

    def fit(self, batches: Batches) -> None:
        """Fit it to typical images.

        Args:
            batches: features of all layers, as the encoder gives them, and their images (B, 1, *spatial).
                Gone through several times; what is held does not depend on their number.

        Raises:
            ModelError: no batch, or features that are not finite.
        """
        gridded = _Gridded(batches, self.infos)
        measure_scales({name: self._scale(name) for name in self.names}, gridded, _MEASURED)
        inverses = {name: self._inverse(name) for name in self.names}
        fit_inverses(inverses, gridded, lambda name, value: self._scale(name).standardise(value))
        if len(self.names) > 1:
            self._fit_together(gridded)

    def _fit_together(self, batches: Batches) -> None:
        """Second moments of the layers' images and of the truth, on what no map was fitted to."""
        count, total, square = 0, torch.zeros_like(self.means), torch.zeros_like(self.together)
        for number, (features, image) in enumerate(batches):
            if not is_aside(number) and number > 0:
                continue
            made = [self._image(name, features[name], image.shape[2:]) for name in self.names]
            rows = torch.stack([one.flatten().double() for one in (*made, image)])
            count += rows.shape[1]
            total, square = total + rows.sum(1).to(total), square + (rows @ rows.T).to(square)
        self.means.copy_(total / count)
        self.together.copy_(square / count - self.means[:, None] * self.means)

    def _weights(self, places: Sequence[int]) -> list[float]:
        """How much each layer's image counts among these."""
        own = self.together[places][:, places]
        if not bool(own.any()):
            return [1 / len(places)] * len(places)
        damped = own + 1e-6 * own.diagonal().mean() * torch.eye(len(places)).to(own)
        solved: list[float] = torch.linalg.solve(damped, self.together[places, -1]).tolist()
        return solved

    def _image(self, name: str, value: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        x = self._scale(name).standardise(value)
        image: torch.Tensor = self._inverse(name)(x)
        return fit_size(image, tuple(shape))

    def _scale(self, name: str) -> Standardised:
        scale: Standardised = self.scales[self.names.index(name)]  # type: ignore[assignment]
        return scale

    def _inverse(self, name: str) -> LinearInverse:
        inverse: LinearInverse = self.linear[self.names.index(name)]  # type: ignore[assignment]
        return inverse


class _Gridded:
    """Batches whose latent vectors are maps of one position."""

    def __init__(self, batches: Batches, infos: Mapping[str, LayerInfo]) -> None:
        self.batches, self.infos = batches, infos

    def __iter__(self) -> Iterator[tuple[Features, torch.Tensor]]:
        for features, image in self.batches:
            yield features_given(features, self.infos), image
