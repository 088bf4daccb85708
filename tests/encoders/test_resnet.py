"""torchvision's ResNets: their keys, their counts, and the features of MONAI's implementation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save_file
from torch import nn

from medrecon.encoders import ResNetEncoder
from medrecon.errors import ModelError

LAYERS = {18: ("basic", [2, 2, 2, 2]), 34: ("basic", [3, 4, 6, 3]), 50: ("bottleneck", [3, 4, 6, 3])}
PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}  # torchvision's, with the classifier
LAST = {18: 512, 34: 512, 50: 2048}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def reference(depth: int) -> ResNet:
    """MONAI's, set up as torchvision's, with statistics that training could have left."""
    block, layers = LAYERS[depth]
    torch.manual_seed(depth)
    network = ResNet(
        block,
        layers,
        [64, 128, 256, 512],
        spatial_dims=2,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=1000,
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, scale in ((module.running_mean, 0.1), (module.bias.data, 0.1)):
                tensor.normal_(std=scale)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
    return network.eval()


def stages(network: ResNet, rgb: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {"stem": network.act(network.bn1(network.conv1(rgb)))}
    x = network.maxpool(found["stem"])
    for stage in range(1, 5):
        for index, block in enumerate(getattr(network, f"layer{stage}")):
            x = found[f"layer{stage}.{index}"] = block(x)
        found[f"layer{stage}"] = x
    return found


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_keys_counts_and_features(depth: int, tmp_path: Path) -> None:
    network = reference(depth)
    save_file(network.state_dict(), tmp_path / "r.safetensors")
    encoder = ResNetEncoder(depth, tmp_path / "r.safetensors")
    keys = set(encoder.state_dict())
    assert set(network.state_dict()) - keys == {"fc.weight", "fc.bias"}
    assert not keys - set(network.state_dict())
    classifier = 1000 * LAST[depth] + 1000
    assert sum(p.numel() for p in encoder.parameters()) + classifier == PARAMETERS[depth]
    image = torch.rand(2, 1, 70, 97)
    with torch.no_grad():
        found, wanted = encoder(image), stages(network, (image - MEAN) / STD)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * scale)


def test_receptive_fields_and_strides() -> None:
    """By hand: 7, then 11 after the pooling, then 2 x stride for each 3-wide convolution."""
    ends = {18: (43, 99, 211, 435), 34: (59, 179, 547, 899), 50: (35, 91, 267, 427)}
    for depth, fields in ends.items():
        infos = {info.name: info for info in ResNetEncoder(depth).layers()}
        assert infos["stem"].receptive_field == (7, 7)
        for stage, field in enumerate(fields, start=1):
            assert infos[f"layer{stage}"].receptive_field == (field, field), depth
            assert infos[f"layer{stage}"].stride == (2 << stage,) * 2
            assert infos[f"layer{stage}"].channels == LAST[depth] // 8 << (stage - 1)


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_the_deepest_fields_are_what_gradients_reach(layer: str) -> None:
    torch.manual_seed(0)
    encoder = ResNetEncoder(18)
    info = next(i for i in encoder.layers() if i.name == layer)
    side = info.receptive_field[0] + 4 * info.stride[0]
    seen: set[int] = set()
    for _ in range(4):
        image = torch.rand(1, 1, side, 64, requires_grad=True)
        features = encoder(image, [layer])[layer]
        features[:, :, features.shape[2] // 2, features.shape[3] // 2].square().sum().backward()
        seen.update(image.grad[0, 0].abs().sum(1).nonzero().flatten().tolist())
    reach = max(seen) - min(seen) + 1
    assert reach == info.receptive_field[0]


def test_normalisations_and_three_channels() -> None:
    encoder, image = ResNetEncoder(), torch.rand(1, 3, 32, 32)
    assert torch.allclose(encoder.normalise(image), (image - MEAN) / STD)
    symmetric = ResNetEncoder(normalisation="symmetric")
    assert torch.allclose(symmetric.normalise(image), 2 * image - 1, atol=1e-6)
    grey = image[:, :1]
    same = encoder(grey.repeat(1, 3, 1, 1), ["layer1"])["layer1"]
    torch.testing.assert_close(encoder(grey, ["layer1"])["layer1"], same)


def test_nothing_is_computed_beyond_the_deepest_layer() -> None:
    encoder, ran = ResNetEncoder(), []
    for name in ("layer1.0", "layer1.1", "layer2.0"):
        encoder.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    encoder(torch.rand(1, 1, 32, 32), ["layer1.0", "stem"])
    assert ran == ["layer1.0"]


def test_statistics_stay_under_train() -> None:
    encoder = ResNetEncoder().train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder(torch.rand(2, 1, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_old_and_parallel_files(tmp_path: Path) -> None:
    """Before PyTorch 0.4.1 no batches were counted; DataParallel puts `module.` before each key."""
    state = {k: v for k, v in reference(18).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "old.pth")
    loaded = ResNetEncoder(18, tmp_path / "old.pth").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items() if not k.startswith("fc."))


def test_files_that_fit_in_part_are_refused(tmp_path: Path) -> None:
    state = reference(18).state_dict()
    save_file(state, tmp_path / "r18.safetensors")
    with pytest.raises(ModelError, match=r"do not fit ResNetEncoder: .*\(and \d+ more\)"):
        ResNetEncoder(34, tmp_path / "r18.safetensors")
    del state["layer4.1.bn2.running_var"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match=r"layer4\.1\.bn2\.running_var is missing"):
        ResNetEncoder(18, tmp_path / "part.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 101}, "choose 18, 34 or 50"),
        ({"normalisation": "caffe"}, "choose torchvision or symmetric"),
    ],
)
def test_wrong_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ResNetEncoder(**arguments)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 16, 16, 16), (16, 16)])
def test_wrong_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"ResNetEncoder takes \(B, 1 or 3, X, Y\)"):
        ResNetEncoder()(torch.rand(shape))
