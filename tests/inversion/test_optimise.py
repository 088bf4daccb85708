"""Inversion by optimisation: of small encoders, whose features hold the image."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from medrecon.contract import Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.encoders import FrozenEncoder, PlainEncoder
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError, UsageError
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.inversion.minimise import Budget, minimise
from medrecon.inversion.optimise import ImageOptimiser
from medrecon.reconstructor import Reconstructor

from ..small_bundles import small_network


def encoder(dims: int = 2) -> FrozenEncoder:
    """Random convolutions with more values than voxels: what they keep is nearly everything."""
    torch.manual_seed(3)
    return FrozenEncoder(PlainEncoder(dims, channels=(8 * 2**dims, 64)))


def images(dims: int = 2, batch: int = 1, size: int = 16) -> torch.Tensor:
    """Blocks of unlike brightness with a ramp."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(batch, 1, *(4,) * dims, generator=generator)
    return nn.functional.interpolate(coarse, (size,) * dims, mode="nearest")


def psnr(image: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(-10 * (image - wanted).square().mean().log10())


def inverted(image: torch.Tensor, names: Sequence[str] = ("level1",), **settings: object) -> torch.Tensor:
    network = encoder(image.ndim - 2)
    with torch.no_grad():
        features = network(image, names)
    return ImageOptimiser(network, **settings)(features, image.shape[2:])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("parameterisation", "optimiser", "gain"),
    [
        ("pixels", "lbfgs", 8),
        ("multiscale", "lbfgs", 8),
        ("fourier", "lbfgs", 8),
        ("fourier", "adam", 6),
        ("prior", "adam", 1),
    ],
)
def test_the_image_comes_back(dims: int, parameterisation: str, optimiser: str, gain: float) -> None:
    image = images(dims, size=16 if dims == 2 else 8)
    settings = {"parameterisation": parameterisation, "optimiser": optimiser, "tv": 0.001}
    found = inverted(image, steps=40 if parameterisation == "prior" else 80, rate=0.03, **settings)
    assert found.shape == image.shape
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert psnr(found, image) > psnr(torch.full_like(image, 0.25), image) + gain


def test_a_deeper_layer_and_two_layers_together() -> None:
    image = images()
    deep = psnr(inverted(image, ["level2"], steps=60), image)
    both = psnr(inverted(image, ["level1", "level2"], steps=60), image)
    assert both > deep > psnr(torch.full_like(image, 0.25), image) + 3


def test_layer_weights_decide_between_layers_that_contradict_each_other() -> None:
    network, one, other = encoder(), images(), images(batch=2)[1:]
    with torch.no_grad():
        features = network(one, ["level1"]) | network(other, ["level2"])
    first = ImageOptimiser(network, steps=40, layer_weights={"level2": 0.0})(features, (16, 16))
    second = ImageOptimiser(network, steps=40, layer_weights={"level1": 0.0})(features, (16, 16))
    assert psnr(first, one) > psnr(first, other) + 3
    assert psnr(second, other) > psnr(second, one) + 3


@pytest.mark.parametrize(("optimiser", "prior"), [("lbfgs", "fourier"), ("adam", "prior")])
def test_an_image_does_not_depend_on_its_company(optimiser: str, prior: str) -> None:
    batch = images(batch=3)
    settings = {"optimiser": optimiser, "parameterisation": prior, "steps": 5}
    with torch.no_grad():
        features = encoder()(batch, ["level1"])
    network = ImageOptimiser(encoder(), **settings)
    together = network(features, (16, 16))
    alone = [network({"level1": features["level1"][k : k + 1]}, (16, 16)) for k in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_the_same_image_each_time_and_the_seed_matters_to_the_deep_prior_alone() -> None:
    image = images()
    state = torch.get_rng_state()
    for prior, differs in (("prior", True), ("fourier", False)):
        made = [inverted(image, steps=6, parameterisation=prior, seed=seed) for seed in (0, 0, 1)]
        assert torch.equal(made[0], made[1])
        assert torch.equal(made[0], made[2]) != differs
    torch.set_rng_state(state)
    before = torch.get_rng_state()
    network = encoder()
    before = torch.get_rng_state()
    ImageOptimiser(network, steps=2, parameterisation="prior")(network(image, ["level1"]), (16, 16))
    assert torch.equal(before, torch.get_rng_state()), "it took from the caller's random stream"


@pytest.mark.parametrize("mode", ["inference", "no_grad", "autocast"])
def test_under_inference_mode_and_autocast_the_result_is_the_same(mode: str) -> None:
    image, network = images(), encoder()
    with torch.no_grad():
        features = network(image, ["level1"])
    optimiser = ImageOptimiser(network, steps=10)
    plain = optimiser(features, (16, 16))
    contexts = {
        "inference": torch.inference_mode,
        "no_grad": torch.no_grad,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    with contexts[mode]():
        same = {name: value.clone() for name, value in features.items()}
        assert torch.equal(optimiser(same, (16, 16)), plain)


def test_the_encoder_stays_as_it_is() -> None:
    for network in (encoder(), small_network(2).encoder.train()):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        training = network.training
        name = network.layers()[-1].name
        with torch.no_grad():
            features = network(images(size=32), [name])
        ImageOptimiser(network, steps=5)(features, (32, 32))
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())
        assert network.training is training


class Constant(Decoder):
    """A decoder that knows the image, but for some noise."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("image", image)

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        return self.image


def test_decode_then_refine_starts_at_what_the_decoder_made() -> None:
    image = images(batch=2)
    torch.manual_seed(0)
    decoded = image + 0.1 * torch.randn_like(image)
    assert torch.equal(inverted(image, start=Constant(decoded), steps=1), decoded)
    refined = inverted(image, start=Constant(decoded), steps=15)
    assert psnr(refined, image) > psnr(decoded, image) + 3
    assert psnr(refined, image) > psnr(inverted(image, steps=15), image)


class Breaks(Encoder):
    """Features that are no numbers once they have been asked for some times."""

    def __init__(self, after: int, value: float = float("nan")) -> None:
        super().__init__()
        self.asked, self.after, self.value = 0, after, value

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("a", 1, (1, 1), (1, 1))]

    def forward(self, image: torch.Tensor, names: Sequence[str]) -> Features:
        self.asked += 1
        return {"a": image * (self.value if self.asked > self.after else 1.0)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_what_diverges_gives_the_best_image_seen(optimiser: str, value: float) -> None:
    image = images()
    for after in (0, 1, 3):
        network = ImageOptimiser(Breaks(after, value), optimiser=optimiser, steps=50, tv=0)
        found = network({"a": image}, (16, 16))
        assert torch.isfinite(found).all()
        assert network.outcomes[0].diverged
        start = torch.full_like(image, 0.25)
        assert psnr(found, image) > psnr(start, image) if after == 3 else torch.equal(found, start)


class InPlace(nn.Module):
    """Overwrites what its gradient needs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.conv(image).exp()
        made = features.exp()
        features.mul_(2)
        return made * features


def test_a_network_without_a_way_back_is_refused_and_a_want_of_memory_is_none_of_it() -> None:
    image, network = images(), TappedEncoder(InPlace())
    features = network(image, ["output"])
    with pytest.raises(ModelError, match=r"gradients cannot be computed .*inplace") as refused:
        ImageOptimiser(network, steps=2)(features, (16, 16))
    assert refused.value.remedy == "name a shallower layer"

    def short(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    parameter = nn.Parameter(torch.ones(1))
    parameter.register_hook(short)
    with pytest.raises(torch.OutOfMemoryError):
        minimise(lambda: (parameter.sum(), image), [parameter], Budget("adam", 2, 0.1, 2, 0.0, 2))


def test_a_rate_that_is_far_too_high_never_ends_worse_than_it_began() -> None:
    image, network = images(), encoder()
    with torch.no_grad():
        features = network(image, ["level1"])
    optimiser = ImageOptimiser(network, optimiser="adam", rate=1e6, steps=10, tolerance=0)
    found = optimiser(features, (16, 16))
    assert torch.isfinite(found).all()
    assert torch.equal(found, torch.full_like(image, 0.25))


def test_it_stops_when_it_has_converged_and_says_so() -> None:
    image, network = images(), encoder()
    with torch.no_grad():
        features = network(image, ["level1"])
    for tolerance, early in ((0.05, True), (0.0, False)):
        optimiser = ImageOptimiser(network, steps=60, tolerance=tolerance, window=5)
        optimiser(features, (16, 16))
        (outcome,) = optimiser.outcomes
        assert outcome.converged == early
        assert (outcome.steps < 60) == early
        assert 0 < outcome.distance < 0.2
        assert outcome.loss >= outcome.distance


def test_lbfgs_ends_where_no_direction_leads_down() -> None:
    value = nn.Parameter(torch.tensor([3.0]))
    budget = Budget("lbfgs", 1000, 0.1, 10, 0.0, 1000)
    found = minimise(lambda: ((value - 1).square().sum(), value), [value], budget)
    assert found.converged
    assert found.steps < 20
    assert found.image is not None
    assert float(found.image) == pytest.approx(1)


def test_progress_counts_the_steps_of_all_images() -> None:
    image, network, seen = images(batch=2), encoder(), []
    optimiser = ImageOptimiser(network, steps=4)
    with torch.no_grad():
        features = network(image, ["level1"])
    optimiser(features, (16, 16), lambda done, total: seen.append((done, total)))
    assert seen == [(k, 8) for k in (*range(8), 8)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimiser": "sgd"}, "no optimiser 'sgd'"),
        ({"parameterisation": "wavelets"}, "no parameterisation"),
        ({"steps": 0}, "start at 1"),
        ({"tv": -1.0}, "weights"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        ImageOptimiser(encoder(), **settings)
    assert caught.value.remedy


def test_features_that_cannot_be_this_encoders_are_refused() -> None:
    optimiser, good = ImageOptimiser(encoder(), steps=2), encoder()(images(), ["level1"])["level1"]
    with pytest.raises(ModelError, match="no features"):
        optimiser({}, (16, 16))
    with pytest.raises(ModelError, match="not finite"):
        optimiser({"level1": good * torch.nan}, (16, 16))
    with pytest.raises(ModelError, match=r"gives \(1, 32, 8, 8\)"):
        optimiser({"level1": good[:, :, :4]}, (16, 16))
    with pytest.raises(ModelError, match="level9"):
        optimiser({"level9": good}, (16, 16))


def test_a_silent_layer_has_an_image_too() -> None:
    network = encoder()
    silent = {name: torch.zeros_like(value) for name, value in network(images(), ["level1"]).items()}
    assert torch.isfinite(ImageOptimiser(network, steps=5)(silent, (16, 16))).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_inside_a_reconstructor_and_the_inferers(dims: int) -> None:
    network = Reconstructor(encoder(dims), ImageOptimiser(encoder(dims), steps=3), mixed_precision=False)
    assert not any("inversion" in name for name in network.state_dict()), "the encoder is kept twice"
    assert network.halo is None
    volume = torch.rand(1, 1, 9, 8, 3) if dims == 2 else torch.rand(1, 1, 9, 8, 7)
    inferer = (SliceInferer if dims == 2 else VolumeInferer)(["level1", "input"])
    with torch.inference_mode():
        found = inferer(volume, network)
    assert found.shape == (1, 2, *volume.shape[2:])
    assert torch.isfinite(found).all()
    assert torch.equal(found[:, 1:], volume)


@pytest.mark.parametrize("window", [{"hu": [-1000, -500], "clip": True}, "zscore"])
def test_where_even_grey_leads_nowhere_it_begins_elsewhere(window: object) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.InstanceNorm3d(6), nn.ReLU())
    encoder = TappedEncoder(network, intensity=window)
    image = 0.1 * torch.rand(1, 1, 4, 4, 4).repeat_interleave(3, 2).repeat_interleave(3, 3)
    optimiser = ImageOptimiser(encoder, steps=60)
    with torch.inference_mode(), encoder.conditioned_on(image):
        optimiser(encoder(image, ["2"]), image.shape[2:])
    (outcome,) = optimiser.outcomes
    assert outcome.steps > 1
    assert outcome.distance < 0.3


def test_in_bfloat16_the_image_is_nearly_the_same() -> None:
    image = images(size=32)
    exact, mixed = (inverted(image, steps=60, mixed_precision=mixed) for mixed in (False, True))
    assert mixed.dtype == torch.float32
    assert not torch.equal(exact, mixed)
    assert psnr(mixed, image) > psnr(exact, image) - 1.5
    assert ImageOptimiser(encoder(), mixed_precision=True).settings()["mixed_precision"] is True
