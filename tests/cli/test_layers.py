"""The verb `layers`, of bundles and of any other network."""

from __future__ import annotations

import json

import pytest

from .conftest import Run

SEGRESNET = ("--encoder", "monai.networks.nets.SegResNet")
ARGUMENTS = (
    "--encoder-arguments",
    '{"spatial_dims": 2, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1], "norm": "batch"}',
)


def test_any_network(medrecon: Run) -> None:
    code, out, err = medrecon("layers", *SEGRESNET, *ARGUMENTS, "--size", "33,20", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    rows = {row["name"]: row for row in data["layers"]}
    assert data["size"] == [33, 20]
    first = rows["convInit.conv"]
    assert (first["channels"], first["stride"], first["shape"]) == (8, [1, 1], [8, 33, 20])
    assert (first["values_per_voxel"], first["bytes"], first["receptive_field"]) == (8, 4 * 8 * 660, [3, 3])
    deep = rows["down_layers.1.0.conv"]
    assert (deep["stride"], deep["shape"]) == ([2, 2], [16, 17, 10])
    assert deep["receptive_field"] is not None


def test_as_a_table_by_pattern_with_what_cannot_be_tapped(medrecon: Run) -> None:
    network = "monai.networks.nets.resnet10"
    arguments = '{"spatial_dims": 2, "n_input_channels": 1, "num_classes": 2}'
    code, out, err = medrecon(
        "layers",
        "-e",
        network,
        "--encoder-arguments",
        arguments,
        "-l",
        "layer?",
        "--size",
        "64",
        "--no-fields",
    )
    assert (code, err) == (0, "")
    assert "512x4x4" in out
    assert "layer4 " in out
    assert "layer4.0" not in out
    assert "not measured" in out
    assert "one vector for the whole image" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--encoder", "vgg17"), 4, "there is no encoder 'vgg17'; did you mean"),
        (("--encoder", "vgg16", "--size", "64,64,64"), 2, "--size 64,64,64 is no size of a 2D image"),
        (("--encoder", "vgg16", "--size", "-3"), 2, "is no size of a 2D image"),
        (("--encoder", "vgg16", "-l", "relu1_9"), 4, "there is no layer 'relu1_9'; did you mean"),
        (("--encoder", "vgg16", "--weights", "nowhere.pt"), 4, "nowhere.pt: there is no such weight file"),
        ((*SEGRESNET, "--encoder-arguments", "{"), 4, "the encoder's arguments are not JSON"),
    ],
)
def test_mistakes_are_one_line(medrecon: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    found, out, err = medrecon("layers", *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
