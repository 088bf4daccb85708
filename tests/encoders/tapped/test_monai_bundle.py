"""MONAI bundles as encoders: network, weights, window, and a preprocessing that is honoured or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai import transforms as mt
from monai.data import MetaTensor
from monai.networks.nets import UNet

from medrecon.encoders import AdaptiveEncoder, build_encoder
from medrecon.errors import ModelError
from medrecon.transforms import ScanIntensityd

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": "@dims",
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}
WINDOW = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -57,
    "a_max": 164,
    "b_min": 0,
    "b_max": 1,
}
STEPS: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": ["image", "label"]},
    {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
    {"_target_": "Orientationd", "keys": ["image", "label"], "axcodes": "RAS"},
    {
        "_target_": "Spacingd",
        "keys": ["image", "label"],
        "pixdim": [2, 2, 2],
        "mode": ["bilinear", "nearest"],
    },
    {**WINDOW, "clip": True},
    {"_target_": "RandFlipd", "keys": "label"},
]


def write_bundle(
    folder: Path,
    steps: list[dict[str, Any]] = STEPS,
    modality: str = "CT",
    form: str = "json",
    weights: bool = True,
    **changes: Any,
) -> Path:
    config = {
        "imports": ["$import glob"],
        "bundle_root": "/somewhere/else",
        "dims": 3,
        "device": "$torch.device('cuda:7')",
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8]},
        **changes,
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    text = json.dumps(config) if form == "json" else yaml.safe_dump(config)
    (folder / "configs" / f"inference.{form}").write_text(text)
    meta = {"network_data_format": {"inputs": {"image": {"modality": modality}}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(meta))
    if weights:
        torch.manual_seed(3)
        torch.save(UNet(3, 1, 2, (4, 8), (2,)).state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_network_weights_window_and_preprocessing(tmp_path: Path, form: str) -> None:
    encoder = build_encoder(write_bundle(tmp_path / "b", form=form), layers="model.0*")
    torch.manual_seed(3)
    network = UNet(3, 1, 2, (4, 8), (2,)).eval()
    assert encoder.window == (16, 16, 8)
    assert [type(step).__name__ for step in encoder.geometry] == ["Orientationd", "Spacingd"]
    assert encoder.notes == []
    hu = torch.linspace(-300, 500, 2048).view(1, 1, 16, 16, 8)
    with torch.no_grad():
        found = encoder((hu + 1024) / 4095, "model.0")["model.0"]
        expected = network.model[0](((hu + 57) / 221).clamp(0, 1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_its_geometry_goes_before_the_intensities_and_comes_back(tmp_path: Path) -> None:
    encoder = build_encoder(write_bundle(tmp_path / "b"), layers="model.0")
    scan = MetaTensor(torch.rand(1, 20, 18, 12) * 1000, affine=torch.diag(torch.tensor([-1.0, -1, 2, 1])))
    steps = mt.Compose([*encoder.geometry, ScanIntensityd("image", units="HU")])
    data = steps({"image": scan})
    assert data["image"].shape[1] == 10
    assert torch.equal(data["image"].pixdim, torch.tensor([2.0, 2, 2], dtype=torch.float64))
    back = steps.inverse(data)["image"]
    assert back.shape == scan.shape
    assert torch.allclose(back.affine, scan.affine)


def test_statistics_are_the_bundle_s_own(tmp_path: Path) -> None:
    steps = [*STEPS[:3], {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}]
    encoder = build_encoder(write_bundle(tmp_path / "b", steps, modality="MR"), layers="model.0")
    image = torch.rand(1, 1, 16, 16, 8)
    image[..., :4] = 0
    expected = mt.NormalizeIntensity(nonzero=True)(image[0])
    torch.testing.assert_close(encoder.intensity(image)[0], torch.as_tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "modality", "said"),
    [
        (
            {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x * 2"},
            "CT",
            "has Lambdad, which cannot",
        ),
        ({"_target_": "HistogramNormalized", "keys": "image"}, "CT", "has HistogramNormalized"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    tmp_path: Path, step: dict[str, Any], modality: str, said: str
) -> None:
    folder = write_bundle(tmp_path / "b", [*STEPS[:4], step], modality)
    with pytest.raises(ModelError, match=said) as caught:
        build_encoder(folder)
    assert str(caught.value).startswith(str(folder))


def test_what_is_not_quite_the_same_is_said(tmp_path: Path) -> None:
    steps = [STEPS[4], STEPS[3]]
    encoder = build_encoder(write_bundle(tmp_path / "b", steps), layers="model.0")
    assert encoder.notes == ["Spacingd runs before the intensity maps here, after them in the bundle"]


def test_one_s_own_map_window_and_arguments(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", [WINDOW], modality="MR")
    encoder = build_encoder(
        folder, arguments={"_intensity_": "zscore", "_window_": [8, 8, 8], "network_def#num_res_units": 0}
    )
    assert encoder.window == (8, 8, 8)
    assert type(encoder.intensity).__name__ == "ZScore"
    with pytest.raises(ModelError, match="has no 'netwrk'"):
        build_encoder(folder, arguments={"netwrk": 1})


def test_bundles_that_are_broken(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither a MONAI bundle \(configs/inference"):
        build_encoder(tmp_path)
    with pytest.raises(ModelError, match=r"has no models/model\.pt; download it"):
        build_encoder(write_bundle(tmp_path / "a", weights=False))
    with pytest.raises(ModelError, match="cannot build 'network_def'"):
        build_encoder(write_bundle(tmp_path / "b", network_def={"_target_": "UNet"}))
    folder = write_bundle(tmp_path / "c", dims=2, inferer={"_target_": "SimpleInferer"})
    with pytest.raises(ModelError, match=r"do not fit UNet: .*has shape"):
        build_encoder(folder)


def test_a_bundle_of_medrecon_s_own_is_its_encoder() -> None:
    folder = Path(__file__).resolve().parents[3] / "bundles" / "slice_transform_code"
    encoder = build_encoder(folder)
    assert [info.name for info in encoder.layers()] == ["level1", "level2", "level3", "level4", "level5"]
    assert not torch.equal(encoder.unwrapped.masks, AdaptiveEncoder(2).masks), "fitted"
