"""Networks of strangers, tapped: one list, 2D and 3D, no code for any of them."""

from __future__ import annotations

import copy
import errno
import math
import pickle
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from monai.networks import nets
from torch import nn

from medrecon.blocks.tiles import plan_tiles
from medrecon.cli.faults import fault_of
from medrecon.encoders.adapt import ChannelMeanStd, ZScore
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError
from medrecon.inference.tiling import VolumeInferer
from medrecon.inversion import FusionDecoder, PlainDecoder
from medrecon.reconstructor import Reconstructor


def unet(dims: int) -> nn.Module:
    """An nnU-Net whose last stride is anisotropic in 3D."""
    last = [2, 2, 1][:dims]
    return nets.DynUNet(
        dims, 1, 2, [3] * 4, strides=[1, 2, 2, last], upsample_kernel_size=[2, 2, last], filters=[4, 4, 8, 8]
    )


def autoencoder(dims: int) -> nn.Module:
    return nets.AutoencoderKL(
        spatial_dims=dims,
        channels=(4, 8),
        latent_channels=2,
        num_res_blocks=1,
        norm_num_groups=2,
        attention_levels=(False, True),
    )


def vgg() -> nn.Module:
    """VGG16 as torchvision builds it, with fewer channels."""
    layers: list[nn.Module] = []
    last = 3
    for width, count in zip((4, 4, 8, 8, 8), (2, 2, 3, 3, 3), strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU(inplace=True)]
            last = width
        layers.append(nn.MaxPool2d(2, 2))
    head = [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(last * 49, 3)]
    return nn.Sequential(nn.Sequential(*layers), *head)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg16": vgg,
    "resnet2d": lambda: nets.ResNet("basic", [1] * 4, [4, 8, 8, 16], spatial_dims=2, n_input_channels=1),
    "resnet3d": lambda: nets.ResNet("basic", [1] * 4, [4, 8, 8, 16], spatial_dims=3, n_input_channels=1),
    "swin2d": lambda: nets.SwinUNETR(
        1, 2, feature_size=12, depths=(1,) * 4, num_heads=(1,) * 4, spatial_dims=2
    ),
    "swin3d": lambda: nets.SwinUNETR(
        1, 2, feature_size=12, depths=(1,) * 4, num_heads=(1,) * 4, spatial_dims=3
    ),
    "segresnet2d": lambda: nets.SegResNet(2, init_filters=8),
    "segresnet3d": lambda: nets.SegResNet(3, init_filters=8),
    "dynunet2d": lambda: unet(2),
    "dynunet3d": lambda: unet(3),
    "unetr2d": lambda: nets.UNETR(1, 2, (32, 48), 4, 12, 16, num_heads=2, spatial_dims=2),
    "unetr3d": lambda: nets.UNETR(1, 2, (32, 48, 16), 4, 12, 16, num_heads=2, spatial_dims=3),
    "autoencoder2d": lambda: autoencoder(2),
    "autoencoder3d": lambda: autoencoder(3),
    "densenet2d": lambda: nets.DenseNet(2, 1, 2, init_features=4, growth_rate=2, block_config=(2,) * 4),
    "densenet3d": lambda: nets.DenseNet(3, 1, 2, init_features=4, growth_rate=2, block_config=(2,) * 4),
}
LARGE = {"swin3d": (33, 37, 40)}  # it takes nothing below 64


LONG = {"swin2d", "swin3d", "segresnet3d", "unetr3d", "autoencoder3d", "densenet3d"}
"""For the slow tests: their family is here in 2D, 3D by other networks, a transformer by UNETR."""
CHOSEN = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NETWORKS]


@pytest.fixture(scope="module", params=CHOSEN)
def encoder(request: pytest.FixtureRequest) -> TappedEncoder:
    torch.manual_seed(0)
    tapped = TappedEncoder(NETWORKS[request.param]())
    tapped.label = request.param
    return tapped


def odd_image(encoder: TappedEncoder, batch: int = 1) -> torch.Tensor:
    """An image of odd, unequal sides, of one channel."""
    torch.manual_seed(1)
    return torch.rand(batch, 1, *LARGE.get(str(encoder.label), (27, 33, 14))[: encoder.spatial_dims])


def some(encoder: TappedEncoder, count: int = 4) -> list[str]:
    count = 2 if encoder.label in LARGE else count
    names = [info.name for info in encoder.layers()]
    return list(dict.fromkeys(names[k * (len(names) - 1) // (count - 1)] for k in range(count)))


def test_features_are_as_declared(encoder: TappedEncoder) -> None:
    image = odd_image(encoder)
    with torch.no_grad():
        features = encoder(image)
    infos = encoder.layers()
    assert len(infos) >= 20
    assert list(features) == [info.name for info in infos]
    for info in infos:
        positions = tuple(math.ceil(n / s) for n, s in zip(image.shape[2:], info.stride, strict=True))
        assert features[info.name].shape == (1, info.channels, *positions), info.name
        assert features[info.name].is_floating_point()
    assert max(max(info.stride) for info in infos) >= 2
    assert all(reason for reason in encoder.refused.values())


def test_a_tap_is_what_a_plain_hook_sees(encoder: TappedEncoder) -> None:
    """At a size that needs no padding, in the order in which the network lays its axes out."""
    size = encoder.window or [
        max(least, 16 // m * m) for least, m in zip(encoder._survey.least, encoder.multiple, strict=True)
    ]
    image = torch.rand(1, encoder.in_channels, *size)
    modules = dict(encoder.network.named_modules())
    names = [name for name in some(encoder, 8) if name in modules]
    assert len(names) >= (1 if encoder.label in LARGE else 3)
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: object, output: torch.Tensor) -> None:
            seen.setdefault(name, output.clone())

        return hook

    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    with torch.no_grad():
        torch.manual_seed(0)
        encoder.network(image)
        for hook in hooks:
            hook.remove()
        features = encoder(image, names)
    for name in names:
        theirs, ours = seen[name], features[name]
        if theirs.ndim == 3:
            assert torch.equal(ours.flatten(2).transpose(1, 2), theirs[:, -ours[0, 0].numel() :]), name
        elif theirs.shape != ours.shape:
            assert torch.equal(ours.movedim(1, -1), theirs), name
        else:
            assert torch.equal(ours, theirs), name


def test_a_layer_does_not_depend_on_its_company(encoder: TappedEncoder) -> None:
    """Nor on what the network writes over it later."""
    image = odd_image(encoder)
    with torch.no_grad():
        together = encoder(image)
        for name in some(encoder):
            alone = encoder(image, [name])
            assert list(alone) == [name]
            assert torch.equal(alone[name], together[name]), name


def test_gradients_reach_the_image_and_nothing_else(encoder: TappedEncoder) -> None:
    image = odd_image(encoder).requires_grad_()
    for name in some(encoder, 3):
        features = encoder(image, [name])[name]
        weights = torch.randn_like(features)  # a plain sum after a norm is a constant
        (gradient,) = torch.autograd.grad((features * weights).square().sum(), image)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0, name
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())


def test_frozen(encoder: TappedEncoder) -> None:
    """Bit-identical after a step of something behind it, in evaluation mode under `.train()`."""
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    info = encoder.layers()[0]
    decoder = PlainDecoder([info], width=2)
    network = Reconstructor(encoder, decoder, mixed_precision=False)
    network.requires_grad_(True)
    network.train()
    optimizer = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=0.1)
    image = odd_image(encoder)
    loss = (network(image, info.name) - image).square().mean()
    loss.backward()
    optimizer.step()
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_a_wrong_name_answers_with_near_ones(encoder: TappedEncoder) -> None:
    name = some(encoder)[1]
    with pytest.raises(ModelError, match=r"there is no layer .*did you mean") as caught:
        encoder(odd_image(encoder), [name + "x"])
    assert name in str(caught.value)


class Odd(nn.Module):
    """All that makes a network hard to tap, in one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.deep = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.pair = Pair()
        self.embed = nn.Linear(6, 8)
        self.tokens = Tokens()
        self.last = nn.Linear(8, 5)
        self.runs = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(image))
        x = self.relu(self.deep(x).neg())
        x = self.pair(x)["features"][0]
        rows = self.embed(x.movedim(1, -1))
        rows = self.tokens(rows.flatten(1, 2))
        self.runs += 1
        try:
            return self.last(rows[:, 0])
        except Exception:  # a network that hides what goes wrong inside
            return rows


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        x.add_(1)  # overwrites what was tapped before
        return {"features": (x * 2, x.mean((2, 3))), "count": (torch.arange(len(x)), x)}


class Tokens(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows.mean(1, keepdim=True), rows], dim=1)


def test_names_of_calls_parts_and_tokens() -> None:
    encoder = TappedEncoder(Odd())
    infos = {info.name: info for info in encoder.layers()}
    assert (encoder.in_channels, encoder.multiple) == (3, (6, 6))
    assert list(infos) == [
        *("conv", "relu", "deep", "relu:2", "pair[features][0]", "pair[count][1]", "embed", "tokens")
    ]
    assert [infos[name].stride[0] for name in ("conv", "relu", "deep", "relu:2")] == [3, 3, 6, 6]
    assert infos["embed"].channels == infos["tokens"].channels == 8
    assert "vector" in encoder.refused["output"]
    assert "floating" in encoder.refused["pair[count][0]"]
    image = torch.rand(2, 1, 17, 31)
    x = encoder(image)
    assert x["tokens"].shape == x["embed"].shape == (2, 8, 3, 6)
    assert torch.equal(x["tokens"], x["embed"]), "the class token is not a position"
    assert bool((x["conv"] < 0).any()), "the in-place ReLU came after"
    assert torch.equal(x["conv"].relu(), x["relu"])
    assert torch.equal(x["pair[features][0]"], 2 * (x["relu:2"] + 1))
    assert encoder.network.runs < 40
    runs = encoder.network.runs
    encoder(image, ["relu"])
    assert encoder.network.runs == runs, "it ran beyond what was asked for"


def test_vectors_are_one_position_of_a_window() -> None:
    encoder = TappedEncoder(Odd(), window=(18, 30), layers=["last", "tokens"])
    assert [info.stride for info in encoder.layers()] == [(6, 6), (18, 30)]
    assert encoder.window == (18, 30)
    features = encoder(torch.rand(2, 3, 18, 30))
    assert features["last"].shape == (2, 5, 1, 1)


def test_layers_by_pattern_in_the_network_s_order() -> None:
    encoder = TappedEncoder(Odd(), layers=["relu*", "conv", "pair[features][0]"])
    assert [info.name for info in encoder.layers()] == ["conv", "relu", "relu:2", "pair[features][0]"]
    with pytest.raises(ModelError, match=r"no layer 'rleu'; did you mean relu"):
        TappedEncoder(Odd(), layers=["rleu"])
    with pytest.raises(ModelError, match=r"cannot be tapped: one vector"):
        TappedEncoder(Odd(), layers=["last"])


def test_no_hook_is_left_whatever_happens() -> None:
    encoder = TappedEncoder(Odd())
    encoder(torch.rand(1, 1, 12, 12), ["relu"])
    encoder.network.embed.forward = lambda rows: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="division by zero"):
        encoder(torch.rand(1, 1, 12, 12), ["tokens"])
    assert not any(module._forward_hooks for module in encoder.modules())


def test_copies_pickles_inference_and_mixed_precision() -> None:
    encoder = TappedEncoder(Odd(), intensity=ChannelMeanStd([0.5] * 3, [0.2, 0.3, 0.4]))
    image = torch.rand(1, 1, 20, 20)
    expected = encoder(image, ["relu:2"])["relu:2"]
    for copied in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(copied(image, ["relu:2"])["relu:2"], expected)
    with torch.inference_mode():
        assert torch.equal(encoder(image, ["relu:2"])["relu:2"], expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encoder(image)["relu:2"].float(), expected, rtol=0.1, atol=0.1)


def test_the_intensity_map_comes_before_the_channels_are_repeated() -> None:
    plain, mapped = TappedEncoder(Odd()), None
    mapped = TappedEncoder(plain.network, intensity=ChannelMeanStd([0.5] * 3, [0.2, 0.3, 0.4]))
    image = torch.rand(1, 1, 12, 18)
    colours = (image - 0.5) / torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)
    assert torch.allclose(mapped(image, "conv")["conv"], plain(colours, "conv")["conv"], atol=1e-6)


def test_statistics_of_the_whole_image_hold_for_its_windows() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    encoder = TappedEncoder(network, intensity=ZScore())
    image = torch.rand(1, 1, 16, 16)
    whole = encoder(image, "0")["0"]
    window = image[:, :, :8, :8] * 1
    assert not torch.allclose(encoder(window, "0")["0"], whole[:, :, :8, :8])
    with encoder.conditioned_on(image):
        assert torch.allclose(encoder(window, "0")["0"], whole[:, :, :8, :8])
    assert not torch.allclose(encoder(window, "0")["0"], whole[:, :, :8, :8])
    assert encoder.measure()[0].receptive_field is None, "statistics reach everywhere"


def test_convolutions_without_padding_still_cover_the_image() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 5, stride=2), nn.Conv2d(2, 2, 5, stride=2), nn.Conv2d(2, 2, 3))
    encoder = TappedEncoder(network)
    for side in (1, 9, 30):
        features = encoder(torch.rand(1, 1, side, side + 3))
        for info in encoder.layers():
            covered = [n * s for n, s in zip(features[info.name].shape[2:], info.stride, strict=True)]
            assert covered[0] >= side and covered[1] >= side + 3  # noqa: PT018


def test_random_networks_repeat_themselves_and_leave_the_caller_s_numbers_alone() -> None:
    encoder = TappedEncoder(autoencoder(2))
    image = torch.rand(1, 1, 16, 16)
    torch.manual_seed(5)
    first = encoder(image, "output[0]")["output[0]"]
    drawn = torch.rand(3)
    assert torch.equal(first, encoder(image, "output[0]")["output[0]"])
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.rand(1, 2, 32, 48), r"takes \(B, 1, X, Y\), not"),
        (torch.rand(1, 1, 32, 48, 16), r"takes \(B, 1, X, Y\), not"),
        (torch.rand(1, 1, 33, 48), "takes images of 32x48 only, not 33x48; give it windows of that size"),
    ],
)
def test_images_that_do_not_suit(image: torch.Tensor, said: str) -> None:
    encoder = TappedEncoder(NETWORKS["unetr2d"]())
    assert encoder.window == (32, 48)
    with pytest.raises(ModelError, match=said) as caught:
        encoder(image)
    assert "\n" not in str(caught.value)


class Limited(nn.Module):
    """Knows 600 places along X; what happens beyond that is up to `fault`."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(1, 4, 600, 1))
        self.fault = fault

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Its places added to the features, where there are enough of them."""
        if self.fault is not None and image.shape[2] > 600:
            raise self.fault
        found = self.conv(image)
        return found + self.places[:, :, : found.shape[2]]


def test_a_network_that_fails_is_told_in_one_line() -> None:
    encoder = TappedEncoder(Limited())
    assert encoder(torch.rand(1, 1, 600, 8))["output"].shape == (1, 4, 600, 8)
    said = (
        r"^Limited fails on an image of shape \(1, 1, 610, 8\) \(RuntimeError: The size of tensor a \(610\) "
        r".*\); name a shallower layer, or give it images of another size$"
    )
    with pytest.raises(ModelError, match=said):
        encoder(torch.rand(1, 1, 610, 8))
    assert encoder(torch.rand(1, 1, 610, 8), "conv")["conv"].shape == (1, 4, 610, 8)
    for fault in (ValueError("odd"), KeyError("a"), AssertionError("wrong\nsize"), ZeroDivisionError()):
        with pytest.raises(ModelError, match=rf"\({type(fault).__name__}: [^\n]+\); name") as caught:
            TappedEncoder(Limited(fault))(torch.rand(1, 1, 610, 8))
        assert fault_of(caught.value).exit_code == 4


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 6),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 6),
        (OSError(errno.ENOSPC, "No space left on device", "cache"), 5),
    ],
)
def test_want_of_memory_is_no_fault_of_the_network(fault: Exception, code: int) -> None:
    with pytest.raises(type(fault)) as caught:
        TappedEncoder(Limited(fault))(torch.rand(1, 1, 610, 8))
    assert fault_of(caught.value).exit_code == code


def test_a_fault_of_our_own_is_not_laid_on_the_network() -> None:
    """Ours are the hooks that see its layers, and they run within it."""
    encoder = TappedEncoder(Limited())
    encoder._taps = {"conv": SimpleNamespace(module="conv")}  # type: ignore[dict-item]
    with pytest.raises(AttributeError, match="overwritten") as caught:
        encoder(torch.rand(1, 1, 16, 16), ["conv"])
    assert fault_of(caught.value).exit_code == 7


def test_a_network_that_needs_more_than_an_image_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Bilinear takes more than an image: input2; give a value for each"):
        TappedEncoder(nn.Bilinear(2, 2, 2), spatial_dims=2)
    with pytest.raises(ModelError, match="no convolution that tells 2D from 3D; give spatial_dims"):
        TappedEncoder(nn.ReLU())


def test_tiled_equals_whole_through_a_tapped_network() -> None:
    """Also for a layer of stride 1 behind one of stride 4: tiles are cut on multiples of 4."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.Conv3d(4, 4, 4, stride=4),
        nn.BatchNorm3d(4),
        nn.ReLU(inplace=True),
        nn.Upsample(scale_factor=4),
        nn.Conv3d(4, 3, 3, padding=1),
    )
    encoder = TappedEncoder(network, layers=["1", "5"])
    whole = Reconstructor(
        encoder, FusionDecoder(encoder.layers(), widths=(4, 4, 4), depth=1), mixed_precision=False
    )
    assert whole.stride == 4
    assert whole.halo is not None
    image, most = torch.rand(1, 1, 150, 8, 9), 8000
    assert len(plan_tiles(image.shape[2:], whole.stride, whole.halo, most)) > 1
    with torch.no_grad():
        expected = torch.cat(list(whole.reconstruct(image, ["1", "5", "1+5"])), dim=1)
        tiled = VolumeInferer(["1", "5", "1+5"], most_voxels=most)(image, whole)
    torch.testing.assert_close(tiled, expected, rtol=1e-4, atol=1e-5)


class Shrinking(nn.Module):
    """Windows that stay as small as the smallest image that it saw, as Swin's in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.side = 16

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.side = min(self.side, *image.shape[2:])
        self.seen = image.shape
        return self.conv(image) - self.conv(image[:, :, : self.side, : self.side]).mean()


def test_a_network_forgets_the_images_that_it_saw() -> None:
    torch.manual_seed(0)
    network = Shrinking()
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(image)
    encoder = TappedEncoder(network, ["output"])
    encoder(image[..., :8, :8])
    assert (network.side, hasattr(network, "seen")) == (16, False)
    assert torch.equal(encoder(image)["output"], expected)


class Bag(nn.Module):
    """Takes several images a time, as a network for multiple instance learning."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Linear(8, 1)  # made first, used last
        self.part = nn.Conv2d(1, 2, 3)

    def forward(self, bag: torch.Tensor) -> torch.Tensor:
        return self.part(bag.reshape(-1, *bag.shape[2:])).unflatten(0, (bag.shape[0], bag.shape[1])).mean(1)


def test_what_takes_no_image_is_told_so() -> None:
    with pytest.raises(ModelError, match=r"takes rows of 64 numbers, no image.*sees the images"):
        TappedEncoder(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 1, 1))
        )
    with pytest.raises(ModelError, match=r"Bag does not run on a 2D image alone.*net.py:part"):
        TappedEncoder(Bag())
    assert [info.name for info in TappedEncoder(Bag().part).layers()] == ["output"]
