"""MedicalNet's networks: the keys that MONAI loads its files with, the features of the dilated original."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save_file
from torch import nn

from medrecon.encoders import MedicalNetEncoder
from medrecon.errors import ModelError

# depth -> (block, blocks of each stage, type of shortcut): the table in MedicalNet's README
SETTINGS = {
    10: ("basic", [1, 1, 1, 1], "B"),
    18: ("basic", [2, 2, 2, 2], "A"),
    34: ("basic", [3, 4, 6, 3], "A"),
    50: ("bottleneck", [3, 4, 6, 3], "B"),
}
MILLIONS = {10: 14.36, 18: 32.99, 34: 63.31, 50: 46.21}  # the same table


def reference(depth: int) -> ResNet:
    """MONAI's network that takes MedicalNet's files, with strides and dilations put right."""
    block, layers, shortcut = SETTINGS[depth]
    torch.manual_seed(depth)
    network = ResNet(
        block,
        layers,
        [64, 128, 256, 512],
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type=shortcut,
        bias_downsample=False,
        feed_forward=False,
    )
    for stage, dilation in ((network.layer3, 2), (network.layer4, 4)):
        for module in stage.modules():
            if isinstance(module, nn.Conv3d):
                module.stride = (1, 1, 1)
                if module.kernel_size == (3, 3, 3):
                    module.dilation = module.padding = (dilation,) * 3
        if isinstance(stage[0].downsample, partial):
            stage[0].downsample = partial(stage[0].downsample, stride=1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def stages(network: ResNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {"stem": network.act(network.bn1(network.conv1(x)))}
    x = network.maxpool(found["stem"])
    for stage in range(1, 5):
        x = found[f"layer{stage}"] = getattr(network, f"layer{stage}")(x)
    return found


@pytest.mark.parametrize("depth", [10, *(pytest.param(n, marks=pytest.mark.slow) for n in (18, 34, 50))])
def test_keys_and_counts(depth: int) -> None:
    encoder = MedicalNetEncoder(depth)
    assert set(encoder.state_dict()) == set(reference(depth).state_dict())
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(MILLIONS[depth], abs=0.06)


@pytest.mark.parametrize("depth", [10, pytest.param(18, marks=pytest.mark.slow), 50])
def test_features_are_those_of_the_dilated_network(depth: int, tmp_path: Path) -> None:
    network = reference(depth)
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "resnet.pth")
    encoder = MedicalNetEncoder(depth, tmp_path / "resnet.pth", normalisation="none")
    image = torch.randn(1, 1, 40, 33, 26)
    names = ["stem", "layer1", "layer2", "layer3", "layer4"]
    with torch.no_grad():
        found, wanted = encoder(image, names), stages(network, image)
    infos = {info.name: info for info in encoder.layers()}
    for name, value in wanted.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * scale)
        assert infos[name].channels == value.shape[1]
    assert [infos[name].stride[0] for name in names] == [2, 4, 8, 8, 8]


def test_receptive_fields() -> None:
    """By hand: 7, 11, then 2 x dilation x stride for each 3-wide convolution."""
    ends = {10: (27, 51, 51 + 2 * 32, 115 + 2 * 64), 50: (35, 91, 91 + 6 * 32, 283 + 3 * 64)}
    for depth, fields in ends.items():
        infos = {i.name: i for i in MedicalNetEncoder(depth, normalisation="none").layers()}
        assert [infos[f"layer{k}"].receptive_field for k in range(1, 5)] == [(f,) * 3 for f in fields]
        assert all(i.receptive_field is None for i in MedicalNetEncoder(depth).layers()), (
            "sees all by its mean"
        )


@pytest.mark.parametrize("layer", ["layer2", "layer3", pytest.param("layer4", marks=pytest.mark.slow)])
def test_the_deep_fields_are_what_gradients_reach(layer: str) -> None:
    torch.manual_seed(0)
    encoder = MedicalNetEncoder(10, normalisation="none")
    info = next(i for i in encoder.layers() if i.name == layer)
    seen: set[int] = set()
    for _ in range(3):
        image = torch.rand(1, 1, info.receptive_field[0] + 4 * info.stride[0], 16, 16, requires_grad=True)
        features = encoder(image, [layer])[layer]
        features[:, :, features.shape[2] // 2, 1, 1].square().sum().backward()
        seen.update(image.grad[0, 0].abs().sum((1, 2)).nonzero().flatten().tolist())
    reach = max(seen) - min(seen) + 1
    assert reach == info.receptive_field[0]


def test_normalisation_is_medicalnets_over_voxels_above_zero() -> None:
    torch.manual_seed(0)
    image = (torch.rand(2, 1, 9, 8, 7) - 0.3).clamp_min(0)
    image[1] *= 3
    found = MedicalNetEncoder().normalise(image)
    for scan, value in zip(image, found, strict=True):
        inside = scan[scan > 0]
        wanted = (scan - inside.mean()) / inside.std(correction=0)
        torch.testing.assert_close(value, wanted)
    flat = MedicalNetEncoder().normalise(torch.zeros(1, 1, 4, 4, 4))
    assert torch.equal(flat, torch.zeros(1, 1, 4, 4, 4))


def test_gradients_flow_through_the_shortcuts_without_weights() -> None:
    encoder = MedicalNetEncoder(18, normalisation="none")
    with torch.no_grad():
        for stage in range(1, 5):
            for block in encoder.get_submodule(f"layer{stage}"):
                block.bn2.weight.zero_()  # nothing passes but by the shortcut
    image = torch.rand(1, 1, 16, 16, 16, requires_grad=True)
    encoder(image, ["layer4"])["layer4"].sum().backward()
    assert image.grad.abs().sum() > 0


def test_files(tmp_path: Path) -> None:
    state = reference(10).state_dict()
    save_file({**state, "conv_seg.0.weight": torch.ones(2)}, tmp_path / "r10.safetensors")
    loaded = MedicalNetEncoder(10, tmp_path / "r10.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    with pytest.raises(ModelError, match="do not fit MedicalNetEncoder"):
        MedicalNetEncoder(18, tmp_path / "r10.safetensors")
    save_file({**state, "head.weight": torch.ones(2)}, tmp_path / "more.safetensors")
    with pytest.raises(ModelError, match=r"head\.weight is not a part"):
        MedicalNetEncoder(10, tmp_path / "more.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"depth": 101}, "choose one of 10, 18, 34, 50"), ({"normalisation": "z"}, "choose volume or none")],
)
def test_wrong_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        MedicalNetEncoder(**arguments)
