"""The network that answers for the controls, seen through with networks of one layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrecon.atlas.probe import PLAIN, QUANTISED, RANDOM, SHUFFLED, Probe, random_encoder, variant
from medrecon.contract import Decoder, Encoder, LayerInfo
from medrecon.encoders import AdaptiveEncoder
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor

from ..small_bundles import small_network


class Copy(Encoder):
    """A layer that is the image, and one that is twice the image through a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.constant_(self.twice.weight, 2.0)

    def layers(self):
        return [LayerInfo("copy", 1, (1, 1, 1), (1, 1, 1)), LayerInfo("twice", 1, (1, 1, 1), (1, 1, 1))]

    def forward(self, image, names=None):
        found = {"copy": image, "twice": self.twice(image)}
        return {name: found[name] for name in names or found}


class Halve(Decoder):
    reach = 0

    def forward(self, features, shape, progress=None):
        return features["copy"] if "copy" in features else features["twice"] / 2


@pytest.fixture
def probe() -> Probe:
    return Probe(Reconstructor(Copy(), Halve(), mixed_precision=False)).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 1, 12, 10, 8, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def answers(probe: Probe, image: torch.Tensor, result: str) -> dict[str, torch.Tensor]:
    probe.ranging = True
    assert len(list(probe.reconstruct(image, [result]))) == 1
    probe.ranging = False
    kinds = [PLAIN, QUANTISED, SHUFFLED, RANDOM]
    made = probe.reconstruct(image, [variant(result, kind) for kind in kinds])
    return dict(zip(kinds, made, strict=True))


def test_each_variant_is_what_it_says(probe, image):
    made = answers(probe, image, "twice")
    assert torch.allclose(made[PLAIN], image)
    step = (image.max() - image.min()) / 255
    assert 0 < (made[QUANTISED] - image).abs().max() <= 0.51 * step
    assert torch.equal(made[SHUFFLED].flatten().sort().values, made[PLAIN].flatten().sort().values)
    assert (made[SHUFFLED] - image).abs().mean() > 0.2
    assert not torch.allclose(made[RANDOM], image)
    assert probe.same == set()
    assert probe.consistency.of("twice") == pytest.approx(0, abs=1e-6)
    assert 0.9 * 8 < probe.code.bits_per_value("twice") <= 8


def test_features_that_do_not_depend_on_weights_are_told(probe, image):
    answers(probe, image, "copy")
    assert probe.same == {"copy"}


def test_an_inconsistent_reconstruction_is_told(probe, image):
    probe.inversion.forward = lambda features, shape, progress: 0 * next(iter(features.values()))
    answers(probe, image, "twice")
    assert probe.consistency.of("twice") == pytest.approx(1)


def test_whole_feature_vectors_are_shuffled_over_slices_and_positions():
    from medrecon.atlas.probe import _shuffled

    values = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).float()
    moved = _shuffled(values)
    before = values.movedim(1, -1).reshape(-1, 3)
    after = moved.movedim(1, -1).reshape(-1, 3)
    assert not torch.equal(before, after)
    assert {tuple(v.tolist()) for v in before} == {tuple(v.tolist()) for v in after}


def test_the_random_encoder_is_another_and_always_the_same():
    encoder = small_network(3).encoder
    one, two = random_encoder(encoder), random_encoder(encoder)
    names = ["level3"]
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(one(image, names)["level3"], two(image, names)["level3"])
        assert not torch.equal(one(image, names)["level3"], encoder(image, names)["level3"])
    assert random_encoder(nn.Module()) is None
    assert random_encoder(nn.ReLU()) is None


def test_the_own_network_goes_through():
    network = small_network(3)
    probe = Probe(network).eval()
    made = answers(probe, torch.rand(1, 1, 16, 32, 16), "level2+level3")
    assert {kind: tuple(v.shape) for kind, v in made.items()}[RANDOM] == (1, 1, 16, 32, 16)
    assert probe.stride == 16
    assert probe.halo == network.halo


@pytest.mark.parametrize(("dims", "inferer"), [(2, SliceInferer), (3, VolumeInferer)])
@torch.inference_mode()
def test_the_inferers_of_the_bundles_drive_it(dims: int, inferer: type):
    network = small_network(dims).eval()
    probe = Probe(network).eval()
    image = torch.rand(1, 1, 32, 48, 16)
    run = inferer(["level3"])
    probe.ranging = True
    run(image, probe)
    probe.ranging = False
    run.results = [variant("level3", kind) for kind in (PLAIN, QUANTISED, SHUFFLED)]
    plain, quantised, shuffled = run(image, probe)[0]
    run.results = ["level3"]
    assert torch.equal(plain, run(image, network)[0, 0])
    assert 0 < (quantised - plain).abs().max() < 0.05
    assert (shuffled - plain).abs().mean() > 10 * (quantised - plain).abs().mean()
    assert 1 < probe.code.bits_per_value("level3") <= 8


@pytest.mark.parametrize(("dims", "inferer"), [(2, SliceInferer), (3, VolumeInferer)])
@torch.inference_mode()
def test_sparse_levels_are_coded_at_the_multiplier_of_the_whole(dims: int, inferer: type):
    encoder = AdaptiveEncoder(dims).eval()
    network = Reconstructor(encoder, AdaptiveDecoder(encoder.layers(), (8, 8), 1, 1), mixed_precision=False)
    image = torch.rand(1, 1, 32, 48, 32, generator=torch.Generator().manual_seed(1))
    image[..., :16] *= 0.1
    part, found = image[..., 16:], {}
    for whole in (part, image):
        probe = Probe(network).eval()
        assert probe.other is None  # no weights to draw anew
        run = inferer(["level1", "level4"])
        with network.conditioned_on(whole):
            probe.ranging = True
            run(part, probe)
            probe.ranging = False
            run.results = [variant("level4", kind) for kind in (PLAIN, QUANTISED)]
            plain, quantised = run(part, probe)[0]
        assert set(probe.code.sparse) == {"level4"}
        assert 0 < (quantised - plain).abs().max() < 0.2
        found[whole is image] = probe.code.bits_per_value("level4")
    assert found[True] > 1.3 * found[False], "the busy half spends what the other leaves"
    assert 0 < found[False] < 8 / 16
