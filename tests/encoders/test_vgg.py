from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from medrecon.encoders import VGGEncoder
from medrecon.errors import ModelError

SHA256 = "701463dc84a2302af4b03b565163d1e58db66fd8963fb3e8e99874dbd4b6326b"
# torchvision's vgg16: index in `features` of each convolution, block by block.
VGG16 = [[0, 2], [5, 7], [10, 12, 14], [17, 19, 21], [24, 26, 28]]
VGG19 = [[0, 2], [5, 7], [10, 12, 14, 16], [19, 21, 23, 25], [28, 30, 32, 34]]


def by_hand(state: dict, rgb: torch.Tensor, blocks: list[list[int]]) -> dict[str, torch.Tensor]:
    """VGG written out, from an RGB image whose normalisation is done."""
    x, found = rgb, {}
    for block, indices in enumerate(blocks, start=1):
        for number, index in enumerate(indices, start=1):
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            x = found[f"relu{block}_{number}"] = F.relu(F.conv2d(x, weight, bias, padding=1))
        x = F.max_pool2d(x, 2)
    return found


def caffe(grey: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
    return (grey.repeat(1, 3, 1, 1) - mean / 255) * 255


@pytest.mark.parametrize(("depth", "blocks"), [(16, VGG16), (19, VGG19)])
def test_keys_layers_and_features(depth: int, blocks: list[list[int]]) -> None:
    encoder = VGGEncoder(depth)
    keys = {f"features.{k}.{part}" for block in blocks for k in block for part in ("weight", "bias")}
    assert set(encoder.state_dict()) == keys
    image = torch.rand(1, 1, 48, 32)
    wanted, found = by_hand(encoder.state_dict(), caffe(image), blocks), encoder(image)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-3)


def test_receptive_fields_of_the_literature() -> None:
    fields = {info.name: info.receptive_field[0] for info in VGGEncoder(16).layers()}
    known = {"relu1_2": 5, "relu2_2": 14, "relu3_3": 40, "relu4_3": 92, "relu5_3": 196}
    assert {name: fields[name] for name in known} == known


def test_normalisation_of_torchvision_and_three_channels() -> None:
    encoder = VGGEncoder(normalisation="torchvision")
    image = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    wanted = by_hand(encoder.state_dict(), (image - mean) / std, VGG16)["relu1_2"]
    torch.testing.assert_close(encoder(image, ["relu1_2"])["relu1_2"], wanted, rtol=1e-4, atol=1e-5)
    grey = image[:, :1]
    same = encoder(grey.repeat(1, 3, 1, 1), ["relu1_2"])["relu1_2"]
    torch.testing.assert_close(encoder(grey, ["relu1_2"])["relu1_2"], same)


def test_nothing_is_computed_beyond_the_deepest_layer() -> None:
    encoder = VGGEncoder()
    ran = []
    for index, module in enumerate(encoder.features):
        module.register_forward_hook(lambda *_, index=index: ran.append(index))
    encoder(torch.rand(1, 1, 16, 16), ["relu2_1", "relu1_1"])
    assert ran == list(range(7))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"depth": 11}, "no VGG11"), ({"normalisation": "imagenet"}, "choose caffe or torchvision")],
)
def test_wrong_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        VGGEncoder(**arguments)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 16, 16, 16), (16, 16)])
def test_wrong_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="VGGEncoder takes"):
        VGGEncoder()(torch.rand(shape))


def test_files_with_torchvisions_keys(tmp_path: Path) -> None:
    state = {k: torch.randn_like(v) * 0.02 for k, v in VGGEncoder().state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    torch.save(state | {"classifier.0.weight": torch.ones(2, 2)}, tmp_path / "vgg.pth")
    for name in ("vgg.safetensors", "vgg.pth"):
        loaded = VGGEncoder(weights=tmp_path / name).state_dict()
        assert all(torch.equal(loaded[k], v) for k, v in state.items())
    with pytest.raises(
        ModelError, match=r"vgg\.pth: these weights do not fit VGGEncoder: .*\(and \d+ more\)"
    ):
        VGGEncoder(19, weights=tmp_path / "vgg.pth")
    with pytest.raises(ModelError, match=r"vgg\.pth: its SHA-256 is"):
        VGGEncoder(weights=tmp_path / "vgg.pth", sha256=SHA256)


@pytest.mark.real_data
def test_the_published_weights(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "vgg16_features.safetensors"
    if not path.is_file():
        pytest.skip("no VGG16 file here")
    encoder = VGGEncoder(weights=path, sha256=SHA256)
    assert not any(p.requires_grad for p in encoder.parameters())
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(1, 1, 8, 8), size=(64, 96), mode="bicubic").clamp(0, 1)
    wanted = by_hand(load_file(path), caffe(image), VGG16)
    found = encoder(image)
    for info in encoder.layers():
        value = found[info.name]
        assert value.shape == (1, info.channels, 64 // info.stride[0], 96 // info.stride[0])
        assert torch.isfinite(value).all()
        assert (value > 0).float().mean() > 0.01, "a trained network answers"
        torch.testing.assert_close(value, wanted[info.name], rtol=1e-3, atol=1e-2)
    # These weights answer 0..255 images in the hundreds; the other normalisation would leave them near 1.
    assert found["relu1_2"].mean() > 20
