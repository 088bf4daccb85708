"""The own decoder behind the own encoder: any subset, any size, exact where nothing was lost."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from medrecon.blocks.tiles import plan_tiles
from medrecon.encoders import HierarchicalEncoder
from medrecon.inference.tiling import VolumeInferer
from medrecon.inversion import HierarchicalDecoder, hierarchical
from medrecon.reconstructor import Reconstructor

LEVELS = ["level1", "level2", "level3", "level4", "level5"]
SUBSETS = ["+".join(group) for size in range(1, 6) for group in combinations(LEVELS, size)]
SHAPES = [(32, 48, 16), (33, 17, 18), (5, 3, 1), (1, 1, 1)]


def build(dims: int, random: bool = True, depths: tuple[int, ...] = (1, 1, 1, 1)) -> Reconstructor:
    """Encoder and decoder whose networks add something, as training would make them."""
    torch.manual_seed(0)
    encoder = HierarchicalEncoder(dims, widths=(6, 6, 6, 6))
    decoder = HierarchicalDecoder(encoder.layers(), widths=(6, 6, 6, 6), depths=depths)
    network = Reconstructor(encoder, decoder, mixed_precision=False)
    if random:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                last = "heads" in name or "outs" in name
                parameter.normal_(std=(0.1 if last else 2) / parameter[0].numel() ** 0.5)
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
def test_untrained_a_deeper_level_is_the_projection_of_the_image(dims: int) -> None:
    """The linear inverse of an orthonormal code: what was kept is kept, encoded again too."""
    network, image = build(dims, random=False), torch.rand(1, 1, *[32] * dims)
    with torch.no_grad():
        for level in LEVELS:
            once = network(image, level)
            torch.testing.assert_close(network(once, level), once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("pair", ["level2+level4", "level3+level4", "level4+level5"])
def test_levels_that_are_joined_are_both_used(dims: int, pair: str) -> None:
    network, image = build(dims), torch.rand(1, 1, *(96, 32, 32)[:dims])
    shallow, deep = pair.split("+")
    with torch.no_grad():
        both, one, other = network.reconstruct(image, [pair, shallow, deep])
    assert (both - one).abs().max() > 1e-4
    assert (both - other).abs().max() > 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_row_after_row_gives_the_same(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = build(dims, depths=(2, 1, 1, 1)), torch.rand(2, 1, *(133, 40, 33)[:dims])
    results = ["level2", "level3", "level5", "level2+level4"]
    with torch.no_grad():
        features = network.encoder(image)
        given = [{name: features[name] for name in result.split("+")} for result in results]
        whole = [network.inversion(each, image.shape[2:]) for each in given]
        monkeypatch.setattr(hierarchical, "_AT_ONCE", 300)
        told: list[tuple[int, int]] = []
        shape = image.shape[2:]
        parts = [network.inversion(each, shape, lambda *done: told.append(done)) for each in given]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert told[-1] == (40, 40), "160 voxels, padded, in positions of 4"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("result", ["level2", "level3", "level5", "level2+level4"])
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1.0, 5.0), (4095.0, -1024.0)])
def test_the_image_follows_any_change_of_window(dims: int, result: str, gain: float, offset: float) -> None:
    """f(a x + b) = a f(x) + b, also where the image ends inside a block."""
    network, image = build(dims), torch.rand(1, 1, *(37, 32, 18)[:dims])
    with torch.no_grad():
        plain, changed = network(image, result), network(gain * image + offset, result)
    error = (changed - (gain * plain + offset)).abs().max()
    assert error < 1e-4 * max(gain, abs(offset))
    linear = build(dims, random=False)(image, result)
    assert (plain - linear).abs().max() > 1e-3, "a network that adds nothing would pass unseen"


@pytest.mark.parametrize("depths", [(1, 1, 1, 1), (2, 2, 2, 1), (3, 2, 2, 1), (1, 3, 0, 2)])
def test_reach_is_how_far_a_feature_is_felt(depths: tuple[int, ...]) -> None:
    """A level5 feature `reach` voxels from a block does not matter to it; the one before it does."""
    decoder = build(2, depths=depths).inversion
    reach = decoder.reach
    side = 2 * (reach + 32) + 32
    block = slice(side // 2 - 16, side // 2 + 16)
    torch.manual_seed(1)
    features = torch.randn(1, 16, side // 32, 1, requires_grad=True)
    image = decoder({"level5": features}, (side, 32))
    image[:, :, block].square().sum().backward()
    felt = features.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (int(felt.min()) * 32, int(felt.max() + 1) * 32) == (block.start - reach, block.stop + reach)


def test_other_layers_than_its_own_are_refused() -> None:
    layers = HierarchicalEncoder(2).layers()
    for wrong in (layers[1:], layers[:1]):
        with pytest.raises(ValueError, match="two levels or more"):
            HierarchicalDecoder(wrong)
    for numbers in ({"widths": (8, 8)}, {"depths": (1, 1, 1)}):
        with pytest.raises(ValueError, match="a width and a depth less"):
            HierarchicalDecoder(layers, **numbers)


def test_tiles_equal_the_whole() -> None:
    network, image = build(3), torch.rand(1, 1, 736, 24, 40)
    results = ["level2", "level5", "level3+level4"]
    with torch.inference_mode():
        whole = VolumeInferer(results, most_voxels=1 << 30)(image, network)
        tiles = plan_tiles(image.shape[2:], network.stride, network.halo, 400 * 24 * 40)
        cut = VolumeInferer(results, most_voxels=400 * 24 * 40)(image, network)
        network.inversion.reach -= 64
        seams = VolumeInferer(results, most_voxels=400 * 24 * 40)(image, network)
    assert len(tiles) > 2
    apart = float((cut - whole).abs().max())
    assert apart < 1e-4, "rounding"
    assert (seams - whole).abs().max() > 10 * apart, "a reach that is too short would pass unseen"
