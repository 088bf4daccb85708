"""Folders of transformers and diffusers, as their libraries save them, without any download."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecon.encoders import build_encoder
from medrecon.errors import ModelError

VIT: dict[str, Any] = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    **{"image_size": 32, "patch_size": 8},
}
KL: dict[str, Any] = {
    **{"block_out_channels": [8, 16], "norm_num_groups": 4, "latent_channels": 2, "layers_per_block": 1},
    **{"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2},
}


@pytest.fixture
def vit(tmp_path: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**VIT)).eval()
    model.save_pretrained(tmp_path / "vit")
    return model


def test_a_vision_transformer_gives_its_own_features(vit: Any, tmp_path: Path) -> None:
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_normalize": True}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    image = torch.rand(1, 1, 32, 32)
    encoder = build_encoder(tmp_path / "vit")
    name = next(info.name for info in encoder.layers() if info.name.endswith(("layer.1", "layers.1")))
    found = encoder(image, [name])[name]
    mean, std = (torch.tensor(settings[key])[None, :, None, None] for key in ("image_mean", "image_std"))
    with torch.no_grad():
        states = vit((image - mean) / std, output_hidden_states=True).hidden_states[2]
    assert found.shape == (1, 16, 4, 4)
    assert torch.allclose(found.flatten(2).transpose(1, 2), states[:, 1:], atol=1e-5)
    assert not encoder.notes


def test_without_its_mean_that_is_said(vit: Any, tmp_path: Path) -> None:
    assert "no preprocessor_config.json" in build_encoder(tmp_path / "vit").notes[0]


def test_an_autoencoder_of_diffusers_gives_its_own_features(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(**KL).eval()
    model.save_pretrained(tmp_path / "kl")
    image = torch.rand(1, 1, 16, 24)
    found = build_encoder(tmp_path / "kl")(image, ["encoder.mid_block"])["encoder.mid_block"]
    kept = []
    model.encoder.mid_block.register_forward_hook(lambda module, given, result: kept.append(result))
    with torch.no_grad():
        model.encode(image.repeat(1, 3, 1, 1))
    assert torch.allclose(found, kept[0], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "library"), [({"model_type": "vit"}, "transformers"), ({"_class_name": "A"}, "diffusers")]
)
def test_a_library_that_is_missing_is_named(
    config: dict[str, str], library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=library) as caught:
        build_encoder(tmp_path)
    assert caught.value.exit_code == 4


def test_a_segmentation_model_as_it_is_saved(tmp_path: Path) -> None:
    library = pytest.importorskip("segmentation_models_pytorch")
    model = library.Unet("resnet18", encoder_weights=None, classes=3).eval()
    model.save_pretrained(tmp_path / "unet")
    kept: list[torch.Tensor] = []
    model.encoder.layer2.register_forward_hook(lambda module, given, result: kept.append(result))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        model(image.repeat(1, 3, 1, 1))
    found = build_encoder(tmp_path / "unet", layers="encoder.layer2")(image)["encoder.layer2"]
    assert torch.allclose(found, kept[0], atol=1e-5)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"arch": "unet"}}, tmp_path / "lit.ckpt")
    arguments = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3}
    named = build_encoder(
        "segmentation_models_pytorch.Unet",
        **{"weights": tmp_path / "lit.ckpt", "arguments": arguments, "layers": "encoder.layer2"},
    )
    assert torch.allclose(named(image)["encoder.layer2"], kept[0], atol=1e-5)
    assert "does not say which mean and deviation" in named.notes[0]


def test_a_checkpoint_that_timm_wrote(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    utils = pytest.importorskip("timm.utils")
    model = timm.create_model("resnet10t", pretrained=False, num_classes=4).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    settings = argparse.Namespace(lr=0.1, model="resnet10t", data_dir=tmp_path)
    saver = utils.CheckpointSaver(
        model, optimizer, args=settings, model_ema=utils.ModelEmaV3(model), checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(0, metric=0.5)
    built = build_encoder(
        "timm.create_model",
        weights=tmp_path / "last.pth.tar",
        arguments={"model_name": "resnet10t", "pretrained": False, "num_classes": 4},
        layers="layer1",
    )
    assert torch.equal(built.unwrapped.network.conv1[0].weight, model.conv1[0].weight)
