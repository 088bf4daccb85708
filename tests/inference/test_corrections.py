"""Corrections: features come nearer and never farther, without seams, for any encoder that has gradients."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import ModelError
from medrecon.inference.corrections import FeatureDistance, by_decoder, by_gradient, descend
from medrecon.inference.sampler import Sampler
from medrecon.reconstructor import Reconstructor
from tests.inference.test_sampler import LEVEL, network, sampler, scan

CPU = torch.device("cpu")


def untold(done: int, of: int) -> None:
    """Nobody wants to know."""


def distances(made: Reconstructor, image: torch.Tensor, other: torch.Tensor) -> list[float]:
    """Of each slice's features."""
    parts = range(image.shape[-1])
    return [FeatureDistance(made, image[..., k], LEVEL, CPU)(other[..., k])[0] for k in parts]


def test_each_slice_comes_nearer_with_each_step() -> None:
    made, image = network(2), scan(40, 37, 4)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(3))
    sample = image + 0.1 * noise
    weight = torch.full_like(image, 0.01)
    before = distances(made, image, sample)
    for count in (1, 3, 6):
        with torch.inference_mode():
            better = by_gradient(made, image, sample, weight, LEVEL, count, untold)
        after = distances(made, image, better)
        assert all(now < then for now, then in zip(after, before, strict=True))
        before = after
    assert not any(parameter.grad is not None for parameter in made.parameters())


def test_the_gradient_is_that_of_the_distance() -> None:
    made, image = network(2), scan(24, 24, 1)[..., 0]
    distance = FeatureDistance(made, image, LEVEL, CPU)
    there = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(4))
    _, gradient = distance(there)
    towards = torch.randn(image.shape, generator=torch.Generator().manual_seed(5))
    ahead, behind = (distance(there + step * towards)[0] for step in (1e-2, -1e-2))
    assert (ahead - behind) / 2e-2 == pytest.approx(float((gradient * towards).sum()), rel=0.02)


def test_tiles_of_a_volume_give_the_gradient_of_the_whole() -> None:
    made, image = network(3), scan(288, 16, 16)
    with torch.no_grad():
        for parameter in made.encoder.parameters():  # untrained, its features see their own block alone
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    other = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(6))
    whole = FeatureDistance(made, image, LEVEL, CPU)
    tiled = FeatureDistance(made, image, LEVEL, CPU, most_voxels=160 * 16 * 16)
    assert len(whole.tiles) == 1
    assert len(tiled.tiles) > 1
    (one, slope), (two, same) = whole(other), tiled(other)
    assert two == pytest.approx(one, rel=1e-5)
    assert torch.allclose(slope, same, atol=1e-5 * float(slope.abs().max()))


def test_what_rises_is_no_step() -> None:
    """A gradient that points the wrong way, and one that is zero."""
    image, weight = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)

    def uphill(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float(x.square().sum()), -2 * x

    def flat(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        return 1.0, torch.zeros_like(x)

    assert torch.equal(descend(uphill, image, weight, 3, untold), image)
    assert torch.equal(descend(flat, image, weight, 3, untold), image)


def test_a_bowl_is_descended_to_its_ground() -> None:
    steep = torch.linspace(1, 9, 64).reshape(1, 1, 8, 8)

    def bowl(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((steep * x.square()).sum()), 2 * steep * x

    left = descend(bowl, torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8), 12, untold)
    assert bowl(left)[0] < 1e-3 * float(steep.sum())


def test_a_last_correction_that_leads_away_is_taken_back_too() -> None:
    base, sample = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert torch.equal(by_decoder(sample, base, lambda x: 4 * x, 1, untold), sample)
    assert by_decoder(sample, base, lambda x: x / 2, 1, untold).mean() == 0.5


def test_samples_by_gradient_are_the_same_however_many_slices_go_at_once() -> None:
    image = scan(40, 37, 5)
    made = [sampler(2, corrections=2, most=most) for most in (None, 1500)]
    drawn = []
    for each in made:
        each.by_gradient = True
        drawn.append(next(iter(each.samples(image, LEVEL, count=1))))
    assert torch.allclose(*drawn, atol=1e-4)
    none = sampler(2, corrections=0)
    plain = next(iter(none.samples(image, LEVEL, count=1)))
    network_ = made[0].network
    assert sum(distances(network_, image, drawn[0])) < 0.7 * sum(distances(network_, image, plain))


def test_what_cannot_be_corrected_is_refused() -> None:
    made, image = sampler(2), scan(16, 16, 2)
    made.by_gradient = True
    with pytest.raises(ModelError, match="features of the scan"):
        made.draw(made.base(image, LEVEL), LEVEL, 0)
    made.network.encoder.window = (16, 16)
    with pytest.raises(ModelError, match="windows of one size") as caught:
        by_gradient(made.network, image, image, image, LEVEL, 1, untold)
    assert caught.value.exit_code == 4
    assert Sampler(made.network, made.generative, made.inferer, by_gradient=True).corrections == 0
