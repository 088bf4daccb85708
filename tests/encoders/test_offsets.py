"""Where a layer's positions lie: known shifts of half voxels and more, whatever stands between."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import BasicUNet, DenseNet121, EfficientNetBN, SEResNet50, SwinUNETR, ViT, resnet18
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from medrecon.encoders import HierarchicalEncoder, ResNetEncoder, VGGEncoder
from medrecon.encoders.offsets import JOINED, UNKNOWN, Place, measure_offsets
from medrecon.encoders.tapped.tap import TappedEncoder

from ..pretended_gpu import pretended_gpu


def last_offset(*modules: nn.Module, dims: int = 2) -> tuple[float, ...]:
    torch.manual_seed(0)
    encoder = TappedEncoder(
        nn.Sequential(*modules), [str(len(modules) - 1)], spatial_dims=dims, in_channels=1
    )
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    (place,) = measure_offsets(encoder, encoder.layers()).values()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not place.doubt
    return place.offset


def composed(*steps: tuple[int, ...]) -> float:
    """The offset of convolutions or pooling in a chain: (kernel, stride, padding before, dilation) each."""
    offset, stride = 0.0, 1
    for kernel, step, padding, *dilation in steps:
        offset += stride * ((dilation or [1])[0] * (kernel - 1) / 2 - padding)
        stride *= step
    return offset


@pytest.mark.parametrize(
    ("modules", "offset"),
    [
        ([nn.Conv2d(1, 4, 3, padding=1)], 0),
        ([nn.Conv2d(1, 4, 3, stride=2, padding=1)], 0),
        ([nn.Conv2d(1, 4, 4, stride=2, padding=1)], 0.5),
        ([nn.Conv2d(1, 4, 7, stride=4, padding=3)], 0),
        ([nn.Conv2d(1, 4, 16, stride=16)], 7.5),
        ([nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2)], 0.5),
        ([nn.Conv2d(1, 4, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1)], 0),
        ([nn.Conv2d(1, 4, 2, stride=2), nn.Conv2d(4, 4, 3, stride=2, padding=1)], 0.5),
        ([nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 2, stride=2)], 1),
        ([nn.Conv2d(1, 4, 4, stride=4), nn.ConvTranspose2d(4, 4, 2, stride=2)], 0.5),
        ([nn.Conv2d(1, 4, 4, stride=4), nn.Upsample(scale_factor=4, mode="nearest")], 0),
        ([nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 6, 3, padding=1, groups=2)], 0),
        ([nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)], -0.5),
    ],
)
def test_known_shifts(modules: list[nn.Module], offset: float) -> None:
    assert last_offset(*modules) == (offset, offset)


def test_norms_activations_and_dead_units_do_not_move_it() -> None:
    deep = [nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.InstanceNorm2d(8), nn.ReLU()]
    deep += [nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.GELU()]
    nn.init.constant_(deep[3].bias, -100)
    assert last_offset(*deep) == (0, 0)


def test_axes_differ() -> None:
    conv = nn.Conv3d(1, 2, (3, 4, 1), stride=(2, 2, 1), padding=(1, 1, 0))
    assert last_offset(conv, dims=3) == (0, 0.5, 0)


class ByHand(nn.GroupNorm):
    """A norm that calls no function for it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        groups = input.unflatten(1, (self.num_groups, -1))
        axes = tuple(range(2, groups.ndim))
        mean, deviation = groups.mean(axes, keepdim=True), groups.std(axes, keepdim=True)
        return ((groups - mean) / (deviation + self.eps)).flatten(1, 2)


def test_a_norm_that_reckons_for_itself_does_not_move_it() -> None:
    steps = [nn.Conv2d(1, 8, 3, stride=2), ByHand(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1)]
    assert last_offset(*steps, ByHand(2, 8), nn.ReLU()) == (1, 1)


class Residual(nn.Module):
    """A long way beside a short one, and a rectifier that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 7, padding=3))
        self.short = nn.Conv2d(1, 4, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(functional.instance_norm(self.long(x) + self.short(x)))


def test_ways_of_different_length_and_functions() -> None:
    assert last_offset(Residual()) == (0, 0)


def test_published_networks() -> None:
    vgg, resnet = VGGEncoder(), ResNetEncoder(18)
    pooled = [info for info in vgg.layers() if info.name == "relu4_3"]
    assert measure_offsets(vgg, pooled) == {"relu4_3": Place((3.5, 3.5))}
    assert set(measure_offsets(resnet, resnet.layers()[::4]).values()) == {Place((0.0, 0.0))}


def test_a_network_on_a_gpu_stays_there_and_is_measured_alike() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Residual(), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 2, stride=2))
    encoder = TappedEncoder(network, ["0", "2"], spatial_dims=2, in_channels=1)
    expected = measure_offsets(encoder, encoder.layers())
    assert expected == {"0": Place((0.0, 0.0)), "2": Place((1.0, 1.0))}
    with pretended_gpu() as faults:
        encoder.to("cuda")
        assert measure_offsets(encoder, encoder.layers()) == expected
        assert all(weight.is_cuda for weight in encoder.parameters())
    assert faults == []


def test_own_networks_begin_in_the_middle_of_their_blocks() -> None:
    encoder = HierarchicalEncoder(2, widths=(4, 4, 4, 4))
    found = measure_offsets(encoder, encoder.layers())
    assert found == {info.name: Place(((info.stride[0] - 1) / 2,) * 2) for info in encoder.layers()}


def test_attention_and_a_way_down_and_up() -> None:
    arguments = {"spatial_dims": 2, "patch_size": 16, "hidden_size": 24, "num_heads": 2, "num_layers": 2}
    vit = TappedEncoder(ViT(1, (64, 48), mlp_dim=24, **arguments), ["blocks.1"], window=(64, 48))
    assert measure_offsets(vit, vit.layers()) == {"blocks.1": Place((7.5, 7.5))}
    unet = TappedEncoder(BasicUNet(2, features=(4, 4, 4, 4, 4, 4)), ["down_2", "upcat_3", "upcat_1"])
    assert measure_offsets(unet, unet.layers()) == {
        "down_2": Place((1.5, 1.5)),
        "upcat_3": Place((1.5, 1.5)),
        "upcat_1": Place((0.0, 0.0)),
    }


@pytest.mark.parametrize("seed", range(6))
def test_any_chain_as_its_kernels_strides_and_paddings_say(seed: int) -> None:
    draw = random.Random(seed)
    steps, modules, width = [], [], 1
    for most in (3, 2, 2, 1):
        kernel, stride, dilation = (
            draw.choice([1, 2, 3, 4, 5]),
            draw.randint(1, most),
            draw.choice([1, 1, 2]),
        )
        padding = draw.randint(0, kernel // 2)
        if draw.random() < 0.3:
            modules.append(nn.MaxPool2d(kernel, stride, padding, ceil_mode=draw.random() < 0.5))
            dilation = 1
        else:
            modules += [nn.Conv2d(width, 4, kernel, stride, padding, dilation), nn.BatchNorm2d(4), nn.ReLU()]
            width = 4
        steps.append((kernel, stride, padding, dilation))
    assert last_offset(*modules) == (composed(*steps),) * 2


STEM = ((7, 2, 3), (3, 2, 1))
HALVED = (2, 2, 0)


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        pytest.param(
            lambda: DenseNet121(2, 1, 2),
            {
                "features.denseblock1": composed(*STEM),
                "features.denseblock3.denselayer1.layers.norm2": composed(*STEM, HALVED, HALVED),
                "features.denseblock4.denselayer2.layers.conv1": composed(*STEM, HALVED, HALVED, HALVED),
            },
            marks=pytest.mark.slow,
        ),
        (lambda: resnet18(spatial_dims=2, n_input_channels=1), {"layer1": 0.0, "layer4": 0.0}),
        pytest.param(
            lambda: SEResNet50(spatial_dims=2, in_channels=1),
            {"layer4.2.conv1.conv": composed((7, 2, 3), (3, 2, 0))},
            marks=pytest.mark.slow,
        ),
        (
            lambda: EfficientNetBN("efficientnet-b0", False, spatial_dims=2, in_channels=1),
            {"_blocks.3.5._depthwise_conv": composed((3, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 0))},
        ),
    ],
    ids=["densenet", "resnet", "gated", "padded to one side"],
)
def test_known_networks(network: Callable[[], nn.Module], layers: dict[str, float]) -> None:
    torch.manual_seed(0)
    encoder = TappedEncoder(network(), list(layers), in_channels=1)
    expected = {name: Place((offset, offset)) for name, offset in layers.items()}
    assert measure_offsets(encoder, encoder.layers()) == expected


class Inception(nn.Module):
    """Ways of other lengths about one centre, behind convolutions that cut the edge, and a reduction."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 4, 3), nn.MaxPool2d(3, 2))
        self.one = nn.Conv2d(4, 4, 1)
        self.two = nn.Sequential(
            nn.Conv2d(4, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0))
        )
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(4, 4, 1))
        self.reduced = nn.Conv2d(12, 4, 3, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu(self.stem(x))
        mixed = torch.cat([self.one(x), self.two(x), self.pool(x)], 1)
        return mixed, torch.cat([self.reduced(mixed), functional.max_pool2d(mixed, 3, 2)], 1)


@pytest.mark.parametrize("window", [None, (72, 56)])
def test_an_inception_network(window: tuple[int, int] | None) -> None:
    encoder = TappedEncoder(Inception(), ["output[0]", "output[1]"], window=window)
    stem = ((3, 2, 0), (3, 1, 0), (3, 2, 0))
    mixed, reduced = composed(*stem), composed(*stem, (3, 2, 0))
    assert measure_offsets(encoder, encoder.layers()) == {
        "output[0]": Place((mixed, mixed)),
        "output[1]": Place((reduced, reduced)),
    }


@pytest.mark.slow
def test_shifted_windows() -> None:
    layers = {"swinViT.layers1.0": 1.5, "swinViT.layers4.0.blocks.0.norm1": 7.5, "decoder3": 1.5}
    swin = SwinUNETR(1, 2, feature_size=12, depths=(2, 1, 1, 1), spatial_dims=2)
    encoder = TappedEncoder(swin, list(layers), window=(64, 64))
    expected = {name: Place((offset, offset)) for name, offset in layers.items()}
    assert measure_offsets(encoder, encoder.layers()) == expected


class Joined(nn.Module):
    """A way down, to positions on the first of their voxels, and up again, beside a short one."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 9, stride=8, padding=4)
        self.short = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deep = functional.interpolate(self.down(x), scale_factor=8.0)
        return self.last(torch.cat([self.short(x), deep], 1))


def test_ways_that_lie_apart_are_said_and_the_short_one_is_taken() -> None:
    encoder = TappedEncoder(Joined(), ["short", "last"])
    found = measure_offsets(encoder, encoder.layers())
    assert found == {"short": Place((0, 0)), "last": Place((0, 0), JOINED)}


class Recomputed(Joined):
    """The same, computed once more on the way back, as large networks do to save memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


def test_a_network_that_computes_once_more_on_the_way_back_is_measured_alike() -> None:
    encoder = TappedEncoder(Recomputed(), ["output"])
    found = measure_offsets(encoder, encoder.layers())
    assert found == {"output": Place((0, 0), JOINED)}
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    assert torch.autograd.grad(encoder(image)["output"].sum(), image)[0].abs().sum() > 0


class Deaf(nn.Module):
    """Its features do not depend on where anything is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(self.conv(x)) + 1


def test_no_centre_is_invented() -> None:
    encoder = TappedEncoder(Deaf(), ["output"])
    assert measure_offsets(encoder, encoder.layers()) == {"output": Place((1.5, 1.5), UNKNOWN)}
