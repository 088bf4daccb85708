"""Bundles as the model zoo has them, one trait each: made here, nothing downloaded."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medrecon.encoders import build_encoder
from medrecon.errors import ModelError

NET = """
import torch
from torch import nn
from scripts.parts import WIDTH

class Net(nn.Module):
    def __init__(self, in_channels=1, pretrained=False, fetch=False):
        super().__init__()
        if pretrained or fetch:
            torch.hub.load_state_dict_from_url("https://nowhere.invalid/weights.pt")
        self.first = nn.Conv2d(in_channels, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, 2, 3, padding=1)

    def forward(self, image):
        return self.second(self.first(image))

class Timed(Net):
    def forward(self, image, time, *, gain=1.0):
        return super().forward(image) * time.view(-1, 1, 1, 1) * gain
"""


def bundle(
    folder: Path,
    width: int = 3,
    meta: dict[str, Any] | None = None,
    steps: list[dict[str, Any]] | None = None,
    **config: Any,
) -> Path:
    """A bundle with code of its own; `config` is merged over a network and its preprocessing."""
    (folder / "configs").mkdir(parents=True)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text("")
    (folder / "scripts" / "parts.py").write_text(f"WIDTH = {width}\n")
    (folder / "scripts" / "net.py").write_text(NET)
    content = {
        "imports": ["$import torch", "$import not_installed_anywhere"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "scripts.net.Net"},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": steps or []},
        **config,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(content))
    facts = {"monai_version": "1.3.0", "network_data_format": {"inputs": {"image": meta or {}}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(facts))
    return folder


def channels_of(folder: Path, **options: Any) -> list[int]:
    encoder = build_encoder(folder, weights="random", **options)
    return [info.channels for info in encoder.layers()]


def test_its_own_code_is_found_and_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = types.ModuleType("scripts")
    monkeypatch.setitem(sys.modules, "scripts", mine)
    before = list(sys.path)
    first, second = bundle(tmp_path / "a", 3), bundle(tmp_path / "b", 5)
    assert channels_of(first) == [3, 2, 2]
    assert channels_of(second) == [5, 2, 2], "the other bundle's scripts"
    assert sys.modules["scripts"] is mine
    assert "scripts.net" not in sys.modules
    assert sys.path == before
    assert not list(first.rglob("__pycache__")), "the bundle is left as it was"


def test_parts_that_are_not_needed_are_not_built(tmp_path: Path) -> None:
    broken = {"_target_": "nowhere.Broken"}
    folder = bundle(
        tmp_path / "a",
        steps=[
            {"_target_": "LoadImaged", "keys": "@key", "reader": broken},
            {"_target_": "nowhere.Broken", "keys": "label"},
            {"_target_": "ScaleIntensityd", "keys": "@key"},
        ],
        key="image",
        inferer={"_target_": "nowhere.Inferer", "roi_size": [16, 24]},
        postprocessing=broken,
        dataset={"_target_": "Dataset", "data": "$open('nowhere')"},
    )
    encoder = build_encoder(folder, weights="random")
    assert encoder.window == (16, 24)
    image = torch.rand(1, 1, 16, 24) * 7
    torch.testing.assert_close(encoder.intensity(image), (image - image.min()) / (image.max() - image.min()))


def test_a_network_under_another_name(tmp_path: Path) -> None:
    folder = bundle(
        tmp_path / "a",
        network_def={"_target_": "torch.nn.Sigmoid"},
        autoencoder_def={"_target_": "scripts.net.Net", "in_channels": 1},
    )
    content = json.loads((folder / "configs" / "inference.json").read_text())
    for key in ("network_def", "network"):
        del content[key]
    (folder / "configs" / "inference.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="no network_def; name one of autoencoder_def with --network"):
        build_encoder(folder, weights="random")
    with pytest.raises(ModelError, match="no 'autoencoder': did you mean 'autoencoder_def'"):
        build_encoder(folder, weights="random", network="autoencoder")
    assert channels_of(folder, network="autoencoder_def") == [3, 2, 2]


LOADS: list[dict[str, Any]] = [
    {
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/other.pt'",
                "load_dict": {"model": "@network"},
            }
        ]
    },
    {
        "path": "$@bundle_root + '/models/other.pt'",
        "checkpoint": "$torch.load(@path, weights_only=False)",
        "load": "$@network_def.load_state_dict(@checkpoint['net'])",
    },
]


@pytest.mark.parametrize("loads", LOADS, ids=["handler", "expression"])
def test_the_checkpoint_that_the_configuration_names(tmp_path: Path, loads: dict[str, Any]) -> None:
    folder = bundle(tmp_path / "a", **loads)
    with pytest.raises(ModelError, match=r"has no models/(other|model)\.pt; download it"):
        build_encoder(folder)
    network = build_encoder(folder, weights="random").network
    state = {key: torch.full_like(value, 0.5) for key, value in network.state_dict().items()}
    (folder / "models").mkdir()
    content = {"epoch": np.float64(3.5), "best": np.int64(2), "net": state}
    torch.save(content, folder / "models" / "other.pt")
    encoder = build_encoder(folder)
    assert all(bool((value == 0.5).all()) for value in encoder.network.state_dict().values())
    assert encoder.notes == []


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    wanted = {"_target_": "scripts.net.Net", "pretrained": True}
    assert channels_of(bundle(tmp_path / "a", network_def=wanted)) == [3, 2, 2]
    stubborn = bundle(tmp_path / "b", network_def={"_target_": "scripts.net.Net", "fetch": True})
    with pytest.raises(ModelError, match=r"it downloads https://nowhere\.invalid/weights\.pt; download"):
        build_encoder(stubborn, weights="random")


def test_arguments_that_the_class_does_not_take(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "a", network_def={"_target_": "scripts.net.Net", "img_size": 96})
    with pytest.raises(ModelError, match=r"img_size, which MONAI .* made with MONAI 1\.3\.0") as caught:
        build_encoder(folder, weights="random")
    remedy = str(caught.value).partition("--encoder-arguments '")[2].rstrip("'")
    assert channels_of(folder, arguments=remedy) == [3, 2, 2], "the remedy works when it is followed"


RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "b_min": -1, "b_max": 1}


@pytest.mark.parametrize(
    ("modality", "low", "high", "units", "scale"),
    [
        ("CT", -100.0, 300.0, "HU", None),
        (None, -100.0, 300.0, "HU", None),
        ("MRI", 0.0, 800.0, "", (0.0, 800.0)),
        ("regular", 0.0, 255.0, "", None),
    ],
)
def test_absolute_values(
    tmp_path: Path,
    modality: str | None,
    low: float,
    high: float,
    units: str,
    scale: tuple[float, float] | None,
) -> None:
    step = {**RANGE, "a_min": low, "a_max": high}
    encoder = build_encoder(
        bundle(tmp_path / "a", meta={"modality": modality}, steps=[step]), weights="random"
    )
    assert (encoder.units, encoder.scale) == (units, scale)
    middle = (low + high) / 2
    one = torch.full((1, 1, 4, 4), (middle + 1024) / 4095 if units else 0.5)
    torch.testing.assert_close(encoder.intensity(one), torch.zeros_like(one), atol=1e-4, rtol=0)


def test_what_a_user_draws_is_left_out(tmp_path: Path) -> None:
    names = {"0": "R", "1": "G", "2": "B", "3": "+ve Signal"}
    folder = bundle(
        tmp_path / "a",
        meta={"channel_def": names, "num_channels": 4},
        steps=[{"_target_": "scripts.clicks.AddClickSignalsd", "image": "image"}],
        network_def={"_target_": "scripts.net.Net", "in_channels": 4},
    )
    encoder = build_encoder(folder, weights="random")
    assert "AddClickSignalsd" in encoder.notes[0]
    assert encoder._prepare(torch.ones(1, 1, 4, 4)).mean((0, 2, 3)).tolist() == [1, 1, 1, 0]


def test_what_cannot_be_honoured_can_be_replaced(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "a", steps=[{"_target_": "HistogramNormalized", "keys": "image"}])
    with pytest.raises(ModelError, match=r"HistogramNormalized, which cannot be honoured; .*_intensity_"):
        build_encoder(folder, weights="random")
    encoder = build_encoder(folder, weights="random", arguments={"_intensity_": "none"})
    assert encoder.notes[0].startswith("HistogramNormalized of the bundle's preprocessing is left out")
    assert isinstance(encoder.intensity, nn.Identity)


def test_what_else_a_network_takes(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "a", network_def={"_target_": "scripts.net.Timed"})
    with pytest.raises(ModelError, match=r"""Timed takes more than an image: time; .*'{"time": \.\.\.}'"""):
        build_encoder(folder, weights="random")
    with pytest.raises(ModelError, match="Timed takes no 'tme'; it takes time, gain"):
        build_encoder(folder, weights="random", inputs={"time": 2.0, "tme": 1})
    one, two = (build_encoder(folder, weights="random", inputs={"time": t}) for t in (1.0, 2.0))
    two.network.load_state_dict(one.network.state_dict())
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(two(image)["output"], 2 * one(image)["output"])


def test_several_images_are_channels(tmp_path: Path) -> None:
    keys = ["artery", "vein"]
    folder = bundle(
        tmp_path / "a",
        meta={"modality": "CT"},
        steps=[
            {"_target_": "LoadImaged", "keys": [*keys, "label"]},
            {"_target_": "Flipd", "keys": keys, "spatial_axis": 0},
            {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
            {**RANGE, "a_min": -100, "a_max": 100},
        ],
        network_def={"_target_": "scripts.net.Net", "in_channels": 2},
    )
    encoder = build_encoder(folder, weights="random")
    assert encoder.channel_names == ("artery", "vein")
    assert [type(step).__name__ for step in encoder.geometry] == ["Flipd"]
