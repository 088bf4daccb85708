"""How far the features of an image are from those that it was made from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from medrecon.contract import Features, Progress
from medrecon.inference.tiling import ResultsInferer
from medrecon.reconstructor import Reconstructor, parse_layers


@dataclass
class Consistency:
    """Squared distances between features and those of their reconstruction."""

    apart: dict[str, float] = field(default_factory=dict)
    length: dict[str, float] = field(default_factory=dict)

    def add(self, result: str, features: Features, again: Features) -> None:
        """Take in the features of a tile, and those of the tile's reconstruction."""
        for name, values in features.items():
            key = f"{result} {name}"
            apart = (again[name].double() - values.double()).square().sum()
            self.apart[key] = self.apart.get(key, 0.0) + float(apart)
            self.length[key] = self.length.get(key, 0.0) + float(values.double().square().sum())

    def of(self, result: str) -> float | None:
        """Relative distance, the mean over a result's layers: 0 the same, 1 as far as features of zero."""
        keys = [f"{result} {name}" for name in parse_layers(result)]
        if any(not self.length.get(key) for key in keys):
            return None
        return sum(math.sqrt(self.apart[key] / self.length[key]) for key in keys) / len(keys)


def feature_distance(
    network: Reconstructor,
    inferer: ResultsInferer,
    image: torch.Tensor,
    other: torch.Tensor,
    result: str,
    most_voxels: int | None = None,
) -> float | None:
    """Distance between the features of two images, over the length of the first one's.

    Args:
        network: whose encoder is asked.
        inferer: of the network: the images are cut as it cuts them.
        image: (1, 1, *spatial) in [0, 1].
        other: the same shape.
        result: the layers that are compared, such as "level4".
        most_voxels: largest tile, as for `ResultsInferer`.

    Returns:
        See `Consistency.of`.
    """
    pair = _Pair(network)
    both = torch.cat([image.to(other), other], dim=1)
    inferer.for_results([result], most_voxels)(both, pair)
    return pair.consistency.of(result)


class _Pair(Reconstructor):
    """Stands in for a network: an inferer drives it over the tiles of two images, a channel each."""

    def __init__(self, network: Reconstructor) -> None:
        super().__init__(network.encoder, network.inversion, network.default, network.mixed_precision)
        self.consistency = Consistency()

    def conditioned_on(self, image: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """The first image is the one that was asked for."""
        return super().conditioned_on(image[:, :1])

    def reconstruct(
        self, image: torch.Tensor, results: Sequence[str | Sequence[str]], progress: Progress | None = None
    ) -> Iterator[torch.Tensor]:
        """The first of the images, once their features are compared."""
        for asked in results:
            result = asked if isinstance(asked, str) else "+".join(asked)
            names = list(parse_layers(result))
            with self.precision(image.device):
                first, second = (self.encoder(part, names) for part in image.split(1, dim=1))
            self.consistency.add(result, first, second)
            yield image[:, :1]
