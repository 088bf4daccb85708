"""Axes, strides, sizes and receptive fields: measured, and equal to what is known."""

from __future__ import annotations

import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn

from medrecon.encoders.tapped.dryrun import ShapeRunner
from medrecon.encoders.tapped.fields import choose_offsets, gap, measure_fields
from medrecon.encoders.tapped.layout import Unfit, layout_by_growth, layout_by_size
from medrecon.encoders.tapped.probe import survey
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError


def conv(last: int, width: int, kernel: int = 3, stride: int | tuple = 1, dilation: int = 1) -> nn.Module:
    return nn.Conv2d(last, width, kernel, stride, dilation * (kernel // 2), dilation)


class Climbs(nn.Module):
    """Down by 4 and up again, so that a voxel's field depends on where in the block of 4 it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 2, 4, stride=4)
        self.up = nn.Upsample(scale_factor=4, mode="nearest")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(image))


FIELDS = {
    "conv": (nn.Sequential(conv(1, 2)), {"0": (3, 3)}),
    "pooled": (
        nn.Sequential(conv(1, 2), nn.MaxPool2d(2), conv(2, 2)),
        {"0": (3, 3), "1": (4, 4), "2": (8, 8)},
    ),
    "dilated": (nn.Sequential(conv(1, 2), conv(2, 2, dilation=4)), {"1": (11, 11)}),
    "uneven": (nn.Sequential(conv(1, 2, stride=(3, 1)), conv(2, 2)), {"0": (5, 3), "1": (11, 5)}),
    "one-sided": (nn.Sequential(conv(1, 2, stride=2)), {"0": (4, 4)}),
    "climbs": (Climbs(), {"down": (4, 4), "up": (7, 7)}),
    "norm": (
        nn.Sequential(conv(1, 2), nn.InstanceNorm2d(2), conv(2, 2)),
        {"0": (3, 3), "1": None, "2": None},
    ),
    "pooling to one": (nn.Sequential(conv(1, 2), nn.AdaptiveAvgPool2d(1)), {"0": (3, 3)}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields(name: str) -> None:
    network, expected = FIELDS[name]
    found = survey(network)
    assert {
        key: value for key, value in measure_fields(network, found, found.taps).items() if key in expected
    } == (expected)


def test_fields_where_the_place_decides_are_unknown() -> None:
    """Windows of 5 that lie on the grid of the image: no field holds everywhere."""

    class Windows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            missing = -x.shape[-1] % 5
            padded = nn.functional.pad(x, (0, missing))
            means = padded.unflatten(-1, (-1, 5)).mean(-1, keepdim=True).expand(-1, -1, -1, -1, 5)
            return means.flatten(-2)[..., : x.shape[-1]] + x

    network = nn.Sequential(conv(1, 2, 1), Windows())
    found = survey(network)
    assert measure_fields(network, found, ["1"])["1"] is None


def test_offsets_see_every_phase_they_can() -> None:
    assert sorted(choose_offsets({1, 2, 4}, 99)) == [0, 1, 2, 3]
    assert choose_offsets({1}, 99) == choose_offsets({8}, 1) == choose_offsets(set(), 5) == [0]
    assert gap([0, 1, 2, 3], 4) == 1
    assert gap([0], 8) == 8
    assert gap(choose_offsets({8}, 2), 8) == 7 or gap(choose_offsets({8}, 2), 8) == 4


def test_survey_of_sizes() -> None:
    assert survey(nn.Sequential(conv(1, 2, stride=(3, 1)), conv(2, 2, stride=2))).multiple == (6, 2)
    fixed = survey(nn.Sequential(conv(1, 2, stride=2), nn.Flatten(), nn.Linear(2 * 48 * 48, 3)))
    assert fixed.window == (96, 96)
    assert {name: tap.layout.kind for name, tap in fixed.taps.items()} == {
        "0": "grid",
        "1": "vector",
        "2": "vector",
        "output": "vector",
    }


class LooksAtItself(nn.Module):
    """Stops at NaN between two convolutions, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(1, 2), conv(2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.first(image)
        if torch.isnan(features).any() or torch.isinf(features).any():
            raise ValueError("features are NaN or Inf")
        return self.last(features)


def test_a_network_that_looks_for_nan_is_surveyed_on_shapes_alone() -> None:
    network = LooksAtItself()
    found = survey(network)
    assert found.mode == "meta"
    assert {"first", "last"} <= found.taps.keys()
    assert measure_fields(network, found, ["first", "last"]) == {"first": (3, 3), "last": None}
    with pytest.raises(ValueError, match="NaN or Inf"):
        network(torch.full((1, 1, 8, 8), torch.nan))


class ByATable(nn.Module):
    """What it computes hangs on a table of its own, as in a network whose architecture was searched."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.tensor([[1, 0], [0, 2]])
        self.few, self.many = conv(1, 2), conv(1, 7)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for row in self.table:
            if row[1]:
                return self.many(image) * int(row[1])
        return self.few(image)


def test_a_network_that_decides_by_its_own_values_is_surveyed_on_shapes_alone() -> None:
    found = survey(ByATable())
    assert found.mode == "meta"
    assert found.taps["output"].layout.channels == 7
    assert "few" not in found.taps


class Decides(nn.Module):
    """What it computes hangs on a value, so that it cannot run on shapes; notes the voxels it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(1, 2, 32, stride=32)
        self.voxels: list[int] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if not image.is_meta:
            self.voxels.append(image[0, 0].numel())
        return self.down(image) * (1.0 + float(image.mean()))


def test_a_network_that_decides_by_values_is_tried_on_small_images_only() -> None:
    network = Decides()
    found = survey(network)
    assert (found.mode, found.multiple, found.window) == ("real", (32, 32, 32), None)
    assert max(network.voxels) <= 160 * 32 * 32


def test_a_module_that_is_registered_twice_stays_where_it_is() -> None:
    first = conv(1, 2)
    network = nn.ModuleDict({"a": first, "b": nn.Sequential(first)})
    network.forward = lambda image: network["b"](image)  # type: ignore[method-assign]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert ShapeRunner(network, "meta", 1).takes((8, 8))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("base", "grown", "kind", "order", "stride", "channels"),
    [
        ((2, 7, 60, 30), [(2, 7, 120, 30), (2, 7, 60, 60)], "grid", (0, 1, 2, 3), (4, 8), 7),
        ((2, 60, 30, 7), [(2, 120, 30, 7), (2, 60, 60, 7)], "grid", (0, 3, 1, 2), (4, 8), 7),
        ((2, 7, 30, 60), [(2, 7, 30, 120), (2, 7, 60, 60)], "grid", (0, 1, 3, 2), (4, 8), 7),
        ((2, 226, 7), [(2, 451, 7), (2, 451, 7)], "tokens", (0, 2, 1), (16, 16), 7),
        ((2, 7, 225), [(2, 7, 450), (2, 7, 450)], "tokens", (0, 1, 2), (16, 16), 7),
    ],
)
def test_layouts_by_growth(
    base: tuple, grown: list, kind: str, order: tuple, stride: tuple, channels: int
) -> None:
    layout = layout_by_growth(base, grown, 2, 240, 2)
    assert (layout.kind, layout.order, layout.stride, layout.channels) == (kind, order, stride, channels)
    assert layout.skip == (1 if base[1] == 226 else 0)


@pytest.mark.parametrize(
    ("base", "grown", "said"),
    [
        ((8, 7, 60, 60), [(16, 7, 60, 60), (16, 7, 60, 60)], "not the batch"),
        ((2, 7), [(2, 7), (2, 7)], "one vector for the whole image"),
        ((2, 4, 225, 225), [(2, 4, 450, 450), (2, 4, 450, 450)], "neither a grid nor"),
        ((2, 7, 480, 480), [(2, 7, 960, 480), (2, 7, 480, 960)], "finer than the image"),
        ((2, 7, 7, 60), [(2, 7, 7, 60), (2, 7, 7, 120)], "neither a grid nor"),
    ],
)
def test_what_is_no_feature_map(base: tuple, grown: list, said: str) -> None:
    with pytest.raises(Unfit, match=said):
        layout_by_growth(base, grown, 2, 240, 2)


def test_layouts_by_one_size() -> None:
    assert layout_by_size((2, 8, 8, 8), 2, (64, 64)).order == (0, 1, 2, 3)
    assert layout_by_size((2, 8, 16, 64), 2, (64, 128)).order == (0, 3, 1, 2), "strides alike along each axis"
    assert layout_by_size((2, 197, 12), 2, (224, 224)).skip == 1
    assert layout_by_size((2, 16, 12), 2, (64, 128), hints=[(16, 32)]).stride == (16, 32)
    with pytest.raises(Unfit):
        layout_by_size((2, 3, 197, 197), 2, (224, 224))


class Split(nn.Module):
    """A convolution of one slab of the image after the other, joined again, as MAISI's are."""

    def __init__(self, last: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv3d(last, width, 3, padding=1), nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.conv(part) for part in image.chunk(4, 3)], 3)


class Shared(nn.Module):
    """The same convolution twice, at half the size along one axis: no slabs."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.AvgPool3d((1, 2, 1))
        self.conv = nn.Conv3d(4, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(self.narrow(image)))


def test_slabs_of_the_image_are_no_layers() -> None:
    network = nn.Sequential(Split(1, 4), nn.MaxPool3d(2), Split(4, 4), Shared())
    found = survey(network)
    assert list(found.taps) == ["0", "1", "2", "3.narrow", "3.conv", "3.conv:2", "3", "output"]
    assert found.taps["2"].layout.stride == (2, 2, 2)
    assert "one slab of the image" in found.refused["2.conv.0:3"]
    assert "2 is all of it" in found.refused["2.conv.0:3"]
    with pytest.raises(ModelError, match=r"2\.conv cannot be tapped: it is one slab"):
        TappedEncoder(network, "2.conv")


def test_the_slabs_of_maisi_are_no_layers() -> None:
    few = {"num_channels": [8, 8], "num_res_blocks": [1, 1], "attention_levels": [False, False]}
    plain = {f"with_{half}_nonlocal_attn": False for half in ("encoder", "decoder")}
    sizes = {"in_channels": 1, "out_channels": 1, "latent_channels": 2, "norm_num_groups": 4}
    found = survey(AutoencoderKlMaisi(3, **few, **plain, **sizes, num_splits=4, dim_split=1))
    assert {"encoder.blocks.1.conv1", "decoder.blocks.3"} <= set(found.taps)
    assert all(len(set(tap.layout.stride)) == 1 for tap in found.taps.values())
    assert "encoder.blocks.1.conv1 is all of it" in found.refused["encoder.blocks.1.conv1.conv.conv:2"]
