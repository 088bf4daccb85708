"""Samples: the same for a seed, without seams, and with the features they were asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from medrecon.encoders import HierarchicalEncoder
from medrecon.errors import ModelError
from medrecon.inference.placed_noise import placed_noise
from medrecon.inference.sampler import MOST_VOXELS, Sampler
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.inversion import HierarchicalDecoder, ResidualFlow
from medrecon.reconstructor import Reconstructor

LEVEL = "level3"


def network(dims: int) -> Reconstructor:
    torch.manual_seed(0)
    channels = {2: (4, 8, 12), 3: (8, 16, 24)}[dims]
    encoder = HierarchicalEncoder(dims, channels, widths=(4, 4))
    decoder = HierarchicalDecoder(encoder.layers(), widths=(4, 4), depths=(1, 1))
    return Reconstructor(encoder, decoder, mixed_precision=False).eval()


def flow(dims: int) -> ResidualFlow:
    torch.manual_seed(1)
    made = ResidualFlow(dims, [LEVEL], widths=(4, 4), depths=(1, 1), scale_width=4)
    made.remember("ab" * 32, [0.05])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.2)
    return made.eval()


def sampler(dims: int, steps: int = 3, corrections: int = 1, most: int | None = None) -> Sampler:
    inferer = (SliceInferer if dims == 2 else VolumeInferer)([LEVEL])
    return Sampler(network(dims), flow(dims), inferer, steps, corrections, most)


def scan(*shape: int) -> torch.Tensor:
    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.avg_pool3d(x, (5, 5, 1), 1, (2, 2, 0))


both = pytest.mark.parametrize("dims", [2, 3])


@both
def test_a_sample_is_the_same_for_its_seed_and_number_alone(dims: int) -> None:
    made, image = sampler(dims), scan(40, 37, 9)
    three = list(made.samples(image, LEVEL, count=3, seed=5))
    assert torch.equal(next(iter(made.samples(image, LEVEL, count=1, seed=5))), three[0])
    assert torch.equal(made.draw(made.base(image, LEVEL), LEVEL, number=2, seed=5), three[2])
    assert three[0].shape == image.shape
    assert three[0].dtype == torch.float32
    assert (three[0] - three[1]).abs().mean() > 1e-3
    assert (three[0] - made.draw(made.base(image, LEVEL), LEVEL, number=0, seed=6)).abs().mean() > 1e-3


def test_tiles_of_a_volume_leave_no_seam() -> None:
    image = scan(96, 40, 44)
    whole, tiled = sampler(3), sampler(3, most=48 * 48 * 48)
    assert len(tiled._tiles(image.shape[2:])) > 1
    one, two = (next(iter(made.samples(image, LEVEL, count=1))) for made in (whole, tiled))
    assert torch.allclose(one, two, atol=1e-4)


def test_a_tile_of_the_flow_is_bounded_however_much_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.inference.sampler.affordable_voxels", lambda *_: 1 << 40)
    tiles = sampler(3)._tiles((512, 512, 300))
    assert len(tiles) > 1
    assert all(math.prod(span.high - span.low for span in tile) <= MOST_VOXELS for tile in tiles)
    assert len(sampler(3)._tiles((256, 256, 300))) == 1


def test_slices_do_not_depend_on_how_many_go_at_once() -> None:
    image = scan(40, 37, 9)
    one, two = (next(iter(sampler(2, most=most).samples(image, LEVEL, count=1))) for most in (None, 3000))
    assert torch.allclose(one, two, atol=1e-4)


def test_a_single_image_is_the_one_slice_of_a_volume() -> None:
    image = scan(40, 37, 1)
    one = next(iter(sampler(2).samples(image, LEVEL, count=1)))
    alone = next(iter(sampler(2).samples(image[..., 0], LEVEL, count=1)))
    assert alone.shape == image.shape[:-1]
    assert torch.allclose(one[..., 0], alone, atol=1e-5)


@both
def test_corrections_bring_the_features_back(dims: int) -> None:
    image, distances = scan(40, 32, 16), []
    for corrections in (0, 1, 3):
        made = sampler(dims, corrections=corrections)
        sample = next(iter(made.samples(image, LEVEL, count=1)))

        def features(x: torch.Tensor, made: Sampler = made) -> torch.Tensor:
            x = x[0].permute(3, 0, 1, 2) if dims == 2 else x
            with torch.no_grad():
                return made.network.encoder(x, [LEVEL])[LEVEL]

        distances.append(float((features(sample) - features(image)).square().mean()))
    assert distances[1] < distances[0] / 10
    assert distances[2] < distances[1] + 1e-9


def test_a_correction_that_leads_away_is_taken_back() -> None:
    """A decoder that makes four times an image of its features: corrections go off farther and farther."""
    made, image = sampler(2, corrections=3), scan(40, 37, 2)

    class Louder(HierarchicalDecoder):
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return 4 * super().forward(*args, **kwargs)

    encoder = made.network.encoder
    louder = Louder(encoder.layers(), widths=(4, 4), depths=(1, 1))
    made.network = Reconstructor(encoder, louder, mixed_precision=False).eval()
    base = made.base(image, LEVEL)
    sample = made.draw(base, LEVEL, 0)
    made.corrections = 0
    assert torch.equal(sample, made.draw(base, LEVEL, 0))


@both
def test_noise_that_the_flow_leaves_alone_keeps_its_variance(dims: int) -> None:
    made = sampler(dims, steps=4, corrections=0)
    untrained = ResidualFlow(dims, [LEVEL], widths=(4, 4), depths=(1, 1), scale_width=4)
    untrained.remember("ab" * 32, [0.05])
    made.generative, image = untrained, scan(40, 37, 9)
    base = made.base(image, LEVEL)
    residual = (made.draw(base, LEVEL, number=1, seed=4) - base)[0, 0] / (0.05 + 1e-3)
    assert torch.allclose(residual, placed_noise(image.shape[2:], seed=4, number=1), atol=1e-3)


@both
def test_it_says_how_far_it_is(dims: int) -> None:
    told: list[tuple[int, int]] = []
    list(sampler(dims).samples(scan(16, 16, 8), LEVEL, 2, progress=lambda done, of: told.append((done, of))))
    assert {of for _, of in told} == {8}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == 8


def test_what_cannot_be_sampled_is_refused_in_a_line() -> None:
    made, image = sampler(2), scan(16, 16, 2)
    for result in ("level1", "level2+level3", "input"):
        with pytest.raises(ModelError, match="no generative decoder for") as caught:
            list(made.samples(image, result, 1))
        assert caught.value.exit_code == 4
        assert LEVEL in str(caught.value.remedy)
    none = Sampler(network(2), None, SliceInferer([LEVEL]))
    with pytest.raises(ModelError, match="no generative decoder"):
        none.check([LEVEL])
    with pytest.raises(ModelError, match="one image of one channel"):
        made.draw(image.repeat(2, 1, 1, 1, 1), LEVEL, 0)
    with pytest.raises(ModelError, match="is 3D, the network 2D"):
        Sampler(network(2), flow(3), SliceInferer([LEVEL]))
