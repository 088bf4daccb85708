from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from medrecon.encoders import DeepbetEncoder
from medrecon.errors import ModelError

SHA256 = "33a295bf9e7a8b188d1d6aee0365501cccf6df1ece24e6d96ad7e736ec662834"


@pytest.fixture
def weights(shared_dir: Path) -> Path:
    path = shared_dir / "weights" / "deepbet_bbox.safetensors"
    if not path.is_file():
        pytest.skip("no deepbet file here")
    return path


def written_out(state: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """LinkNet3d's encoder by functions alone, from an image whose normalisation is done."""

    def conv(x: torch.Tensor, key: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{key}.weight"]
        return F.instance_norm(F.conv3d(x, weight, stride=stride, padding=weight.shape[-1] // 2), eps=1e-5)

    found = {"stem": F.relu(conv(x, "init.0", 2))}
    x = F.max_pool3d(found["stem"], 3, stride=2, padding=1)
    for stage in range(4):
        for block in (1, 2):
            key, step = f"down{stage}.block{block}", 2 if stage > 0 and block == 1 else 1
            short = conv(x, f"{key}.downsample.0", 2) if step == 2 else x
            y = F.relu(conv(x, f"{key}.double_conv.0", step))
            x = F.relu(conv(y, f"{key}.double_conv.3") + short)
        found[f"down{stage}"] = x
    return found


def as_trained(scan: torch.Tensor) -> torch.Tensor:
    """deepbet's own normalisation, from raw values."""
    low, high = scan.quantile(0.005), scan.quantile(0.995)
    x = ((scan - low) / (high - low)).clamp(0, 1)
    return 0.226 * (x - x.mean()) / x.std() + 0.449


def agrees(encoder: DeepbetEncoder, side: int = 64) -> None:
    torch.manual_seed(0)
    coarse = torch.rand(1, 1, 8, 8, 8)
    scan = 300 * F.interpolate(coarse, size=(side,) * 3, mode="trilinear") + torch.randn((side,) * 3)
    low, high = scan.quantile(0.005), scan.quantile(0.995)
    found = encoder((scan - low) / (high - low))
    wanted = written_out(encoder.state_dict(), as_trained(scan))
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


def test_layers_and_features_written_out() -> None:
    encoder = DeepbetEncoder()
    assert [(i.name, i.channels, i.stride[0]) for i in encoder.layers()] == [
        ("stem", 16, 2),
        ("down0", 16, 4),
        ("down1", 32, 8),
        ("down2", 64, 16),
        ("down3", 128, 32),
    ]
    assert all(info.receptive_field is None for info in encoder.layers()), "its norms see the whole image"
    agrees(encoder)


def test_the_scale_of_the_scan_and_its_outliers_do_not_count() -> None:
    encoder = DeepbetEncoder()
    image = torch.rand(1, 1, 32, 32, 32)
    image[0, 0, :2] = torch.tensor([0.0, 1.0])[:, None, None]
    beyond = torch.where(image == 1, 9.0, image)
    beyond = torch.where(image == 0, -9.0, beyond)
    for name, value in encoder(image).items():
        torch.testing.assert_close(encoder(beyond, [name])[name], value)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_image_has_finite_features_and_gradients(value: float) -> None:
    image = torch.full((1, 1, 32, 32, 32), value, requires_grad=True)
    features = DeepbetEncoder()(image)
    sum(f.square().mean() for f in features.values()).backward()
    assert all(torch.isfinite(f).all() for f in features.values())
    assert torch.isfinite(image.grad).all()


def test_nothing_is_computed_beyond_the_deepest_layer() -> None:
    encoder, ran = DeepbetEncoder(), []
    for stage in range(4):
        encoder.get_submodule(f"down{stage}").register_forward_hook(lambda *_, stage=stage: ran.append(stage))
    encoder(torch.rand(1, 1, 32, 32, 32), ["stem", "down1"])
    assert ran == [0, 1]


def test_the_decoder_may_be_in_the_file_and_nothing_else(tmp_path: Path) -> None:
    state = {k: torch.randn_like(v) for k, v in DeepbetEncoder().state_dict().items()}
    decoder = {
        "up0.conv1.0.weight": torch.ones(2),
        "tp_conv2.bias": torch.ones(2),
        "conv.0.bias": torch.ones(8),
    }
    save_file(state | decoder, tmp_path / "w.safetensors")
    loaded = DeepbetEncoder(tmp_path / "w.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    save_file(state | {"head.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"head\.weight is not a part of DeepbetEncoder"):
        DeepbetEncoder(tmp_path / "w.safetensors")


@pytest.mark.parametrize("shape", [(1, 2, 32, 32, 32), (1, 1, 32, 32), (32, 32, 32)])
def test_wrong_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"DeepbetEncoder takes \(B, 1, X, Y, Z\)"):
        DeepbetEncoder()(torch.rand(shape))


@pytest.mark.real_data
def test_the_published_weights(weights: Path) -> None:
    encoder = DeepbetEncoder(weights, sha256=SHA256)
    state = load_file(weights)
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    assert {key.split(".")[0][:2] for key in state.keys() - encoder.state_dict().keys()} == {"up", "tp", "co"}
    agrees(encoder)
