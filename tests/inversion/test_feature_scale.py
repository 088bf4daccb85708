"""Networks of large and of tiny features: what is made of them does not depend on their size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrecon.contract import Features, LayerInfo
from medrecon.encoders import TappedEncoder
from medrecon.inversion import FusionDecoder, ImageOptimiser, LinearDecoder
from medrecon.reconstructor import Reconstructor

SIZES = [1e4, 1e-4, 1e-8]


class Scaled(nn.Module):
    """Two convolutions whose results are larger or smaller by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        with torch.no_grad():
            self.first.weight.mul_(factor)
            self.first.bias.mul_(factor)  # type: ignore[union-attr]
            self.second.bias.mul_(factor)  # type: ignore[union-attr]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.second(torch.relu(self.first(image)))
        return made


def encoder(factor: float) -> TappedEncoder:
    return TappedEncoder(Scaled(factor), ["first", "second"])


def images(count: int = 10) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [
        nn.functional.interpolate(torch.rand(1, 1, 8, 8), (32, 32), mode="bilinear") for _ in range(count)
    ]


def fitted(factor: float, kind: str) -> Reconstructor:
    built = encoder(factor)
    torch.manual_seed(2)
    if kind == "linear":
        network = Reconstructor(built, LinearDecoder(built.layers()), mixed_precision=False)
    else:
        decoder = FusionDecoder(built.layers(), widths=[4, 6], depth=1)
        network = Reconstructor(built, decoder, mixed_precision=False)
    network.fit(images(), torch.device("cpu"))
    return network


@pytest.mark.parametrize("factor", SIZES)
@pytest.mark.parametrize("kind", ["linear", "trained"])
@pytest.mark.parametrize("layers", ["first", "second", "first+second"])
def test_a_decoder_gives_the_same_whatever_the_size(factor: float, kind: str, layers: str) -> None:
    image = images()[0]
    with torch.no_grad():
        wanted, made = (fitted(each, kind)(image, layers) for each in (1.0, factor))
    assert float((wanted - image).square().mean()) < 0.5 * float(image.var())
    assert float((made - wanted).square().mean().sqrt()) < 1e-3
    torch.testing.assert_close(made, wanted, rtol=0, atol=0.02)  # corners, which see what the border repeats


@pytest.mark.parametrize("factor", SIZES)
def test_a_training_goes_the_same_way(factor: float) -> None:
    losses = {}
    for each in (1.0, factor):
        network = fitted(each, "trained").train()
        optimiser = torch.optim.AdamW(network.inversion.parameters(), lr=1e-3)
        for image in images() * 3:
            loss = (network(image, "second") - image).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses[each] = float(loss.detach())
    assert losses[factor] == pytest.approx(losses[1.0], rel=0.02)


@pytest.mark.parametrize("factor", SIZES)
def test_an_image_is_optimised_alike_and_how_near_it_came_is_told_alike(factor: float) -> None:
    image, told = images()[0], {}
    for each in (1.0, factor):
        network = encoder(each)
        optimiser = ImageOptimiser(network, steps=30, parameterisation="pixels")
        optimiser(network(image, ["second"]), image.shape[2:])
        told[each] = optimiser.outcomes[0].distance
    assert 0 < told[1.0] < 0.1
    assert told[factor] == pytest.approx(told[1.0], rel=0.3)


def test_a_silent_layer_stays_silent() -> None:
    decoder = LinearDecoder([LayerInfo("a", 2, (1, 1)), LayerInfo("b", 2, (1, 1))])
    pairs: list[tuple[Features, torch.Tensor]] = [
        ({"a": torch.zeros(1, 2, 32, 32), "b": image.repeat(1, 2, 1, 1)}, image) for image in images()
    ]
    decoder.fit(pairs)
    made = decoder({"a": torch.full((1, 2, 32, 32), 0.1)}, (32, 32))
    assert float(made.abs().max()) < 2, "what was never heard is not blown up"
