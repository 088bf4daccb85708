"""Where a layer's positions lie: known shifts of half voxels and more, whatever stands between."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, ViT
from torch import nn
from torch.nn import functional

from medrecon.encoders import HierarchicalEncoder, ResNetEncoder, VGGEncoder
from medrecon.encoders.offsets import measure_offsets
from medrecon.encoders.tapped.tap import TappedEncoder


def last_offset(*modules: nn.Module, dims: int = 2) -> tuple[float, ...]:
    torch.manual_seed(0)
    encoder = TappedEncoder(
        nn.Sequential(*modules), [str(len(modules) - 1)], spatial_dims=dims, in_channels=1
    )
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    (offset,) = measure_offsets(encoder, encoder.layers()).values()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
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
    assert measure_offsets(vgg, pooled) == {"relu4_3": (3.5, 3.5)}
    assert set(measure_offsets(resnet, resnet.layers()[::4]).values()) == {(0.0, 0.0)}


def test_own_networks_begin_in_the_middle_of_their_blocks() -> None:
    encoder = HierarchicalEncoder(2, widths=(4, 4, 4, 4))
    found = measure_offsets(encoder, encoder.layers())
    assert found == {info.name: ((info.stride[0] - 1) / 2,) * 2 for info in encoder.layers()}


def test_attention_and_a_way_down_and_up() -> None:
    arguments = {"spatial_dims": 2, "patch_size": 16, "hidden_size": 24, "num_heads": 2, "num_layers": 2}
    vit = TappedEncoder(ViT(1, (64, 48), mlp_dim=24, **arguments), ["blocks.1"], window=(64, 48))
    assert measure_offsets(vit, vit.layers()) == {"blocks.1": (7.5, 7.5)}
    unet = TappedEncoder(BasicUNet(2, features=(4, 4, 4, 4, 4, 4)), ["down_2", "upcat_3", "upcat_1"])
    assert measure_offsets(unet, unet.layers()) == {
        "down_2": (1.5, 1.5),
        "upcat_3": (1.5, 1.5),
        "upcat_1": (0.0, 0.0),
    }
