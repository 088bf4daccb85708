"""Single channels of layers, offered as layers of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medrecon.encoders import AdaptiveEncoder, ChannelsEncoder, PlainEncoder, build_encoder
from medrecon.encoders.channels import find_channels
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError
from medrecon.inversion import ImageOptimiser


class Pair(nn.Module):
    """Returns two feature maps: `output[0]` and `output[1]`."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 3, 4, stride=2, padding=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both of an image."""
        return self.one(image), self.two(image)


def test_a_channel_is_one_feature_map_of_its_layer() -> None:
    torch.manual_seed(0)
    inner = TappedEncoder(Pair())
    encoder = ChannelsEncoder(inner, ["one[2]", "output[1][0]", "one[0]", "output[1]"])
    assert [info.name for info in encoder.layers()] == [
        *("one", "one[2]", "one[0]", "two", "output[0]", "output[1]", "output[1][0]")
    ]
    told = {info.name: (info.channels, info.stride) for info in encoder.layers()}
    assert told["one[2]"] == (1, (1, 1))
    assert told["output[1][0]"] == (1, (2, 2))
    fields = {info.name: info.receptive_field for info in encoder.measure()}
    assert fields["one[2]"] == fields["one"] == (3, 3)
    image = torch.rand(2, 1, 10, 12)
    found, whole = encoder(image, ["output[1][0]", "one[2]", "output[1]"]), inner(image)
    assert list(found) == ["output[1][0]", "one[2]", "output[1]"]
    assert torch.equal(found["one[2]"], whole["one"][:, 2:3])
    assert torch.equal(found["output[1][0]"], whole["output[1]"][:, :1])
    assert torch.equal(found["output[1]"], whole["output[1]"])


def test_channels_that_are_not_there() -> None:
    layers = PlainEncoder(2, channels=(4, 6)).layers()
    assert find_channels(["level1[3]", "level2[5]", "level1"], layers) == {
        "level1[3]": ("level1", 3),
        "level2[5]": ("level2", 5),
    }
    said = r"layer level1 has no channel 4; its channels are level1\[0\] to level1\[3\]"
    with pytest.raises(ModelError, match=said):
        find_channels(["level1[4]"], layers)
    for name in ("level1[-1]", "level1[03]", "level1[x]", "level1[]", "level9[1]", "level1[1][1]"):
        assert find_channels([name], layers) == {}, "no channel: an unknown layer, and told as one"


def test_statistics_of_the_whole_image_are_held_through_it() -> None:
    encoder = ChannelsEncoder(AdaptiveEncoder(2), ["level2[1]"])
    assert encoder.spatial_dims == 2
    with encoder.conditioned_on(torch.rand(1, 1, 32, 32)):
        encoder(torch.rand(1, 1, 32, 32))
        assert encoder.is_conditioned


def test_only_the_channel_counts() -> None:
    """Each channel sees one of two images."""
    network = nn.Conv2d(2, 2, 1, groups=2, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    inner = TappedEncoder(network, spatial_dims=2)
    encoder = ChannelsEncoder(inner, ["output[1]"])
    torch.manual_seed(0)
    image = nn.functional.interpolate(torch.rand(1, 2, 4, 4), (16, 16), mode="nearest")
    optimiser = ImageOptimiser(encoder, steps=60, tv=0.001, channels=2)
    found = optimiser(encoder(image, ["output[1]"]), (16, 16))
    error = (found - image).square().mean((0, 2, 3)).sqrt()
    assert error[1] < 0.05
    assert (found[:, 0] - 0.25).abs().max() < 0.01, "nothing moved what the channel does not see"


def test_a_network_is_built_with_single_channels() -> None:
    named: dict[str, Any] = {
        "arguments": {"in_channels": 1, "out_channels": 4, "kernel_size": 3, "padding": 1}
    }
    torch.manual_seed(0)
    whole = build_encoder("torch.nn.Conv2d", **named)
    torch.manual_seed(0)
    chosen = build_encoder("torch.nn.Conv2d", layers=["output[3]", "output[1]"], **named)
    image = torch.rand(1, 1, 8, 8)
    assert [(info.name, info.channels) for info in chosen.layers()] == [("output[3]", 1), ("output[1]", 1)]
    assert torch.equal(chosen(image)["output[3]"], whole(image)["output"][:, 3:])
    own = build_encoder("medrecon.encoders.PlainEncoder", layers="level1[0]")
    assert [info.name for info in own.layers()] == ["level1[0]"]
    with pytest.raises(ModelError, match="no channel 4"):
        build_encoder("torch.nn.Conv2d", layers="output[4]", **named)
