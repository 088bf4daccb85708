"""The distance between the features of two images, in tiles and in one piece."""

from __future__ import annotations

import pytest
import torch

from medrecon.inference.consistency import feature_distance
from medrecon.inference.tiling import inferer_for

from ..small_bundles import small_network


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_the_relative_distance(dims: int) -> None:
    torch.manual_seed(0)
    network = small_network(dims).eval()
    chance = torch.Generator().manual_seed(1)
    image, other = (torch.rand(1, 1, 32, 32, 16, generator=chance) for _ in range(2))
    inferer = inferer_for(network, ["level3"])

    def features(x: torch.Tensor) -> torch.Tensor:
        x = x if dims == 3 else x[0].permute(3, 0, 1, 2)
        return network.encoder(x, ["level3"])["level3"]

    with torch.inference_mode():
        first, second = features(image), features(other)
        expected = float((first - second).norm() / first.norm())
        assert feature_distance(network, inferer, image, other, "level3") == pytest.approx(expected, rel=1e-5)
        assert feature_distance(network, inferer, image, image.double(), "level3") == 0
