"""The own decoder behind the own encoder: any levels, any size, and what was kept stays as it was."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from medrecon.blocks.tiles import slabs
from medrecon.contract import LayerInfo
from medrecon.encoders import AdaptiveEncoder
from medrecon.errors import ModelError
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor

LEVELS = ["level1", "level2", "level3", "level4", "level5"]
SUBSETS = ["+".join(group) for size in range(1, 6) for group in combinations(LEVELS, size)]
SHAPES = [(32, 48, 16), (33, 17, 18), (5, 3, 1), (1, 1, 1), (16, 2, 40)]


def build(dims: int, random: bool = True, depth: int = 1, coarse_depth: int = 1) -> Reconstructor:
    """Encoder and decoder whose guesses are there, as training would make them."""
    torch.manual_seed(0)
    encoder = AdaptiveEncoder(dims, orders=2)
    decoder = AdaptiveDecoder(encoder.layers(), widths=(6, 8), depth=depth, coarse_depth=coarse_depth)
    network = Reconstructor(encoder, decoder, mixed_precision=False)
    if random:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                last = name.endswith(("out.weight", "guess.weight"))
                parameter.normal_(std=(0.05 if last else 2) / max(1, parameter[0].numel()) ** 0.5)
    return network.eval()


def picture(dims: int, shape: tuple[int, ...] = (48, 32, 32)) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand(1, 1, *shape[:dims]).cumsum(2) / shape[0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_subset_gives_the_shape_asked(dims: int, shape: tuple[int, ...]) -> None:
    network, image = build(dims), torch.rand(2, 1, *shape[:dims])
    with torch.no_grad():
        for result, got in zip(SUBSETS, network.reconstruct(image, SUBSETS), strict=True):
            assert got.shape == image.shape, result
            assert torch.isfinite(got).all(), result
            if "level1" in result:
                assert (got - image).abs().max() < 4e-6, result


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("result", LEVELS[2:])
def test_what_was_kept_comes_back_as_it_was(dims: int, result: str) -> None:
    network, image = build(dims), picture(dims)
    with torch.no_grad():
        features = network.encoder(image, [result])[result]
        made = network.encoder(network.inversion({result: features}, image.shape[2:]), ["level1"])["level1"]
    kept = features != 0
    kept[:, 0] = True
    torch.testing.assert_close(made[kept], features[kept], rtol=1e-4, atol=1e-5)
    assert (made[~kept]).abs().max() > 1e-3, "a network that guesses nothing would pass unseen"


@pytest.mark.parametrize("dims", [2, 3])
def test_joined_levels_hold_what_either_holds(dims: int) -> None:
    network, image = build(dims, random=False), picture(dims)
    with torch.no_grad():
        joined, one, other = network.reconstruct(image, ["level4+level5", "level4", "level5"])

    def off(made: torch.Tensor) -> float:
        return float((made - image).square().mean())

    assert off(joined) <= off(one) < off(other)
    features = network.encoder(image, ["level4", "level5"])
    either = (features["level4"] != 0) | (features["level5"] != 0)
    back = network.encoder(joined, ["level1"])["level1"]
    torch.testing.assert_close(back[either], network.encoder(image, ["level1"])["level1"][either])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("result", ["level3", "level4", "level5", "level3+level5"])
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1.0, 5.0), (4095.0, -1024.0)])
def test_the_image_follows_any_change_of_window(dims: int, result: str, gain: float, offset: float) -> None:
    """f(a x + b) = a f(x) + b, also where the image ends inside a block."""
    network, image = build(dims).double(), picture(dims, (37, 32, 18)).double()
    with torch.no_grad():
        plain, changed = network(image, result), network(gain * image + offset, result)
        linear = build(dims, random=False).double()(image, result)
    assert (changed - (gain * plain + offset)).abs().max() < 1e-4 * max(gain, abs(offset))
    assert (plain - linear).abs().max() > 1e-3, "a network that guesses nothing would pass unseen"


@pytest.mark.parametrize(("dims", "depth", "coarse"), [(2, 1, 1), (2, 4, 2), (3, 1, 1), (3, 2, 1), (3, 3, 2)])
def test_reach_is_how_far_a_feature_is_felt(dims: int, depth: int, coarse: int) -> None:
    """A feature beyond `reach` voxels from a block does not matter to it; the last one before it may."""
    decoder = build(dims, depth=depth, coarse_depth=coarse).inversion
    size, reach = decoder.size, decoder.reach
    blocks = 2 * (reach // size + 1) + 1
    torch.manual_seed(1)
    features = torch.randn(1, size**dims, blocks, *(1,) * (dims - 1))
    features[:, 1::2] = 0
    features.requires_grad_()
    image = decoder({"level4": features}, (blocks * size, *(size,) * (dims - 1)))
    middle = blocks // 2
    image[:, :, middle * size : (middle + 1) * size].square().sum().backward()
    felt = features.grad.abs().sum([d for d in range(features.ndim) if d != 2]).nonzero().flatten()
    assert int(felt.min()) == middle - reach // size
    assert int(felt.max()) == middle + reach // size


@pytest.mark.parametrize("dims", [2, 3])
def test_where_enough_was_kept_nothing_is_guessed(dims: int) -> None:
    network, linear, image = build(dims), build(dims, random=False), picture(dims)
    with torch.no_grad():
        for result in ("level2", "level2+level4"):
            assert torch.equal(network(image, result), linear(image, result)), result
        assert not torch.equal(network(image, "level4"), linear(image, "level4"))
        eager = AdaptiveDecoder(network.encoder.layers(), widths=(6, 8), depth=1, coarse_depth=1, enough=1)
        eager.load_state_dict(network.inversion.state_dict())
        features = network.encoder(image, ["level2"])
        assert not torch.equal(eager(features, image.shape[2:]), linear(image, "level2"))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("at_once", [1, 9, 30])
@pytest.mark.parametrize("result", ["level2", "level4", "level3+level5"])
def test_row_after_row_it_is_what_it_is_at_once(
    dims: int, at_once: int, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build(dims, depth=2, coarse_depth=3).double()
    images = torch.rand(2, 1, *(150, 33, 18)[:dims]).double()
    with torch.no_grad():
        features = network.encoder(images, result.split("+"))
        whole = network.inversion(features, images.shape[2:])
        monkeypatch.setattr("medrecon.inversion.adaptive._AT_ONCE", at_once)
        grid = next(iter(features.values())).movedim(1, -1).shape[:-1]
        assert len(slabs(grid, at_once)) > 1
        rows = network.inversion(features, images.shape[2:])
    torch.testing.assert_close(rows, whole, rtol=1e-9, atol=1e-9)
    learning = network.inversion(features, images.shape[2:])
    torch.testing.assert_close(learning.detach(), whole, rtol=1e-9, atol=1e-9)
    assert learning.requires_grad == (result != "level2")


def test_unknown_layers_are_refused() -> None:
    decoder = build(2).inversion
    for features in ({}, {"level6": torch.zeros(1, 256, 2, 2)}):
        with pytest.raises(ModelError, match="the decoder was given"):
            decoder(features, (16, 16))


def test_layers_of_another_encoder_are_refused() -> None:
    layers = AdaptiveEncoder(2).layers()
    with pytest.raises(ValueError, match="levels of one stride"):
        AdaptiveDecoder([LayerInfo("level1", 64, (16, 16))])
    with pytest.raises(ValueError, match="levels of one stride"):
        AdaptiveDecoder([*layers, LayerInfo("level9", 64, (8, 8))])
    with pytest.raises(ValueError, match="two widths"):
        AdaptiveDecoder(layers, widths=(8,))
