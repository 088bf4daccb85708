"""Functional operations as layers: named by the module that calls them, tapped like any other."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from medrecon.encoders import build_encoder
from medrecon.encoders.offsets import Place, measure_offsets
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.inversion import ImageOptimiser


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.conv(x)) + x
        x += 1
        return x


class Functional(nn.Module):
    """Most of what it computes, no module returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.block = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(x))
        x = functional.max_pool2d(self.block(x), 2)
        return self.act(torch.cat([x, x * 2], 1).sum(1, keepdim=True))


NAMES = [
    *("first", "/relu", "block.conv", "block/relu", "block/add", "block/add:2", "block"),
    *("/max_pool2d", "/mul", "/cat", "/sum", "act", "output"),
]


def encoder() -> TappedEncoder:
    torch.manual_seed(0)
    return TappedEncoder(Functional(), operations=True)


def test_each_function_is_a_layer_in_the_order_of_execution() -> None:
    made = encoder()
    infos = {info.name: info for info in made.layers()}
    assert list(infos) == NAMES
    assert infos["/max_pool2d"].stride == (2, 2)
    assert infos["/cat"].channels == 8
    plain = TappedEncoder(made.network)
    assert [info.name for info in plain.layers()] == [name for name in NAMES if "/" not in name]


def test_features_are_what_the_functions_return() -> None:
    made, image = encoder(), torch.rand(2, 1, 12, 16)
    found = made(image)
    network = made.network
    relu = functional.relu(network.first(image))
    block = functional.relu(network.block.conv(relu)) + relu
    assert torch.equal(found["/relu"], relu)
    assert torch.equal(found["block/add"], block)  # as it was before it was changed in place
    assert torch.equal(found["block/add:2"], block + 1)
    assert torch.equal(found["/cat"].sum(1, keepdim=True), found["/sum"])
    for name in NAMES:  # alone: the run ends there
        assert torch.equal(made(image, [name])[name], found[name]), name
    assert not network._forward_hooks
    assert not network.block._forward_pre_hooks


def test_they_are_measured_and_inverted() -> None:
    made = encoder()
    fields = {info.name: info.receptive_field for info in made.measure()}
    assert fields["/relu"] == (3, 3)
    assert fields["block/add"] == (5, 5)
    assert fields["/sum"] == (6, 6)  # measuring sums too, and that is no layer
    infos = [info for info in made.layers() if info.name == "/max_pool2d"]
    assert measure_offsets(made, infos) == {"/max_pool2d": Place((0.5, 0.5))}
    image = torch.rand(1, 1, 16, 16)
    optimiser = ImageOptimiser(made, steps=20)
    with torch.no_grad():
        wanted = made(image, ["/relu"])
    optimiser(wanted, (16, 16))
    assert optimiser.outcomes[0].distance < 0.5


def test_the_option_is_an_argument() -> None:
    made = build_encoder(
        "monai.networks.nets.ResNet",
        arguments={
            **{"block": "basic", "layers": [1] * 4, "block_inplanes": [4, 4, 8, 8], "spatial_dims": 2},
            **{"n_input_channels": 1, "_operations_": True, "_layers_": "layer2*"},
        },
    )
    assert "layer2.0/add" in [info.name for info in made.layers()]
