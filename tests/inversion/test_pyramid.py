"""The own decoder behind the own encoder: any subset, any size, exact where nothing was lost."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from medrecon.encoders import ConvEncoder
from medrecon.errors import ModelError
from medrecon.inversion import PyramidDecoder
from medrecon.reconstructor import Reconstructor

LEVELS = ["level1", "level2", "level3", "level4"]
SUBSETS = ["+".join(group) for size in range(1, 5) for group in combinations(LEVELS, size)]
SHAPES = [(32, 48, 16), (33, 17, 18), (5, 3, 1), (1, 1, 1), (16, 2, 40)]


def build(dims: int, random: bool = True, depth: int = 1) -> Reconstructor:
    """Encoder and decoder whose corrections are there, as training would make them."""
    torch.manual_seed(0)
    encoder = ConvEncoder(dims, widths=(6, 6, 6))
    decoder = PyramidDecoder(encoder.layers(), widths=(6, 6, 6), depth=depth)
    network = Reconstructor(encoder, decoder, mixed_precision=False)
    if random:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                last = "heads" in name or name.endswith("out.weight")
                parameter.normal_(std=(0.02 if last else 2) / parameter[0].numel() ** 0.5)
    return network.eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_subset_gives_the_shape_asked(dims: int, shape: tuple[int, ...]) -> None:
    network, image = build(dims), torch.rand(2, 1, *shape[:dims])
    with torch.no_grad():
        for result, got in zip(SUBSETS, network.reconstruct(image, SUBSETS), strict=True):
            assert got.shape == image.shape, result
            assert torch.isfinite(got).all(), result


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_level1_is_exact_alone_and_in_any_company(dims: int, shape: tuple[int, ...]) -> None:
    network, image = build(dims), torch.rand(1, 1, *shape[:dims])
    with torch.no_grad():
        for result in (r for r in SUBSETS if r.startswith("level1")):
            assert (network(image, result) - image).abs().max() < 1e-6, result


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_that_are_joined_are_both_used(dims: int) -> None:
    network, image = build(dims), torch.rand(1, 1, *(48, 32, 32)[:dims])
    with torch.no_grad():
        both, one, other = network.reconstruct(image, ["level3+level4", "level3", "level4"])
    assert (both - one).abs().max() > 1e-4
    assert (both - other).abs().max() > 1e-4


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("result", ["level2", "level3", "level4", "level2+level4", "level2+level3+level4"])
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1.0, 5.0), (4095.0, -1024.0)])
def test_the_image_follows_any_change_of_window(dims: int, result: str, gain: float, offset: float) -> None:
    """f(a x + b) = a f(x) + b, also where the image ends inside a block."""
    network, image = build(dims), torch.rand(1, 1, *(37, 32, 18)[:dims])
    with torch.no_grad():
        plain, changed = network(image, result), network(gain * image + offset, result)
    error = (changed - (gain * plain + offset)).abs().max()
    assert error < 1e-5 * max(gain, abs(offset))
    linear = build(dims, random=False)(image, result)
    assert (plain - linear).abs().max() > 1e-3, "a network that corrects nothing would pass unseen"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_reach_is_how_far_a_feature_is_felt(dims: int, depth: int) -> None:
    """A level4 feature `reach` voxels from a block does not matter to it; the one before it does."""
    decoder = build(dims, depth=depth).inversion
    reach = decoder.reach
    side = 2 * (reach + 16) + 16
    shape = (side, 16, 16)[:dims]
    block = slice(side // 2 - 8, side // 2 + 8)
    layer = decoder.names[-1]
    channels = ConvEncoder(dims).layers()[-1].channels
    torch.manual_seed(1)
    features = torch.randn(1, channels, *(n // 16 for n in shape), requires_grad=True)
    image = decoder({layer: features}, shape)
    image[:, :, block].square().sum().backward()
    felt = features.grad.abs().sum([d for d in range(features.ndim) if d != 2]).nonzero().flatten()
    nearest = (int(felt.min()) * 16, int(felt.max() + 1) * 16)
    assert nearest == (block.start - reach, block.stop + reach)


def test_the_bundles_depths_reach_as_far_as_they_should() -> None:
    layers = ConvEncoder(2).layers()
    assert [PyramidDecoder(layers, depth=depth).reach for depth in (1, 2, 3, 4)] == [32, 48, 48, 48]


def test_unknown_layers_are_refused() -> None:
    decoder = build(2).inversion
    for features in ({}, {"level5": torch.zeros(1, 1, 2, 2)}):
        with pytest.raises(ModelError, match="the decoder was given"):
            decoder(features, (16, 16))


def test_other_layers_than_its_own_are_refused() -> None:
    layers = ConvEncoder(2).layers()
    with pytest.raises(ValueError, match="four levels"):
        PyramidDecoder(layers[:3])
    with pytest.raises(ValueError, match="three widths"):
        PyramidDecoder(layers, widths=(8, 8))
