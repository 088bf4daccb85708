"""Any network's linear inverse: fitted once, kept whole and private, made anew when anything changed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medrecon
from medrecon.bundle.config import Bundle
from medrecon.bundle.workflow import encoder_of
from medrecon.errors import ModelError, OutputError, UsageError
from medrecon.inference.pipeline import Pipeline
from medrecon.io import find_one, find_scans
from medrecon.training.linear import LOWER_BOUND, bundle, linear_inverse
from medrecon.training.linear.cache import cache_folder
from medrecon.training.linear.images import typical_images

from ...conftest import write_waves

FLAT = {"what": "medrecon.encoders.PlainEncoder", "arguments": {"spatial_dims": 2, "channels": [8, 8]}}
SOLID = {"what": "medrecon.encoders.PlainEncoder", "arguments": {"spatial_dims": 3, "channels": [8]}}


@pytest.fixture(autouse=True)
def home(small_fits: Path) -> Path:
    return small_fits


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_waves(tmp_path / "t1.nii.gz")


@pytest.mark.parametrize("recipe", [FLAT, SOLID])
def test_it_is_a_bundle_that_gives_the_scan_back_about_and_says_that_it_is_a_bound(
    recipe: dict[str, Any], scan: Path, tmp_path: Path
) -> None:
    folder = linear_inverse(recipe, "level1", device="cpu")
    found = find_one(scan)
    result = medrecon.reconstruct(found, bundle=folder, device="cpu")
    truth = medrecon.read_scan(found).astype(float)
    off = np.sqrt(np.square(result["level1"] - truth).mean()) / truth.std()
    assert off < 0.8, "an even picture is off by 1"
    assert LOWER_BOUND in result.notes
    pipeline = Pipeline.from_bundle(folder, scans=[found], output=tmp_path / "out.nii.gz", device="cpu")
    pipeline.run(found)
    manifest = pipeline.write_manifest(tmp_path / "out.nii.gz")
    assert LOWER_BOUND in manifest.read_text()
    assert Bundle.open(folder).name == "medrecon.encoders.PlainEncoder_linear_inverse"


def test_the_second_time_nothing_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    first = linear_inverse(FLAT, "level1,level2", device="cpu")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    monkeypatch.setattr(bundle, "typical_images", None)
    assert linear_inverse(FLAT, ["level1", "level2"], device="cpu") == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    with pytest.raises(TypeError):
        linear_inverse(FLAT, "level2", device="cpu")


def test_the_key_holds_all_that_the_fit_depends_on(tmp_path: Path, scan: Path) -> None:
    known = {linear_inverse(FLAT, "level1", device="cpu")}

    def is_new(folder: Path) -> bool:
        new = folder not in known
        known.add(folder)
        return new

    assert not is_new(linear_inverse(FLAT, "level1", device="cpu"))
    assert is_new(linear_inverse(FLAT, "level2", device="cpu")), "layers"
    wider = {**FLAT, "arguments": {"spatial_dims": 2, "channels": [8, 9]}}
    assert is_new(linear_inverse(wider, "level1", device="cpu")), "arguments"
    assert is_new(linear_inverse(FLAT, "level1", scans=find_scans(scan).scans, device="cpu")), "scans"
    small = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [2, 2], "strides": [2]}
    network = {"what": "monai.networks.nets.UNet", "arguments": small}
    assert is_new(linear_inverse(network, "model.0", device="cpu"))
    state = encoder_of(network).unwrapped.network.state_dict()
    for number in range(2):
        file = tmp_path / f"{number}.pt"
        torch.save({key: value + number for key, value in state.items()}, file)
        assert is_new(linear_inverse(network, "model.0", weights=file, device="cpu")) == bool(number), (
            "weights"
        )


@pytest.mark.parametrize("file", ["models/model.pt", "configs/inference.yaml", "sums.json"])
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_what_is_not_whole_is_made_anew(file: str, harm: str) -> None:
    folder = linear_inverse(FLAT, "level1", device="cpu")
    path, before = folder / file, (folder / "models" / "model.pt").read_bytes()
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[:-9] if harm == "cut" else content[:-9] + b"xxxxxxxxx")
    again = linear_inverse(FLAT, "level1", device="cpu")
    assert again == folder
    assert path.read_bytes() == content
    assert (folder / "models" / "model.pt").read_bytes() == before


def test_a_fit_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def fails(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "_write_configs", fails)
    with pytest.raises(KeyboardInterrupt):
        linear_inverse(FLAT, "level1", device="cpu")
    assert [path for path in home.rglob("*") if path.is_file()] == []
    monkeypatch.undo()


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_the_cache_is_its_owners_alone(home: Path) -> None:
    folder = linear_inverse(FLAT, "level1", device="cpu")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700
    cache_folder().chmod(0o770)
    with pytest.raises(OutputError, match="others can write") as caught:
        linear_inverse(FLAT, "level1", device="cpu")
    assert caught.value.exit_code == 5


def test_a_relative_cache_home_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "medrecon" / "linear"


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written") as caught:
        linear_inverse(FLAT, "level1", device="cpu")
    assert "XDG_CACHE_HOME" in caught.value.remedy


def test_images_are_the_same_each_time_and_scans_come_between_them(scan: Path) -> None:
    encoder = encoder_of(FLAT)
    plain, found = typical_images(encoder), find_scans(scan).scans
    both = typical_images(encoder, found)
    assert [image.shape for image in both] == [(1, 1, 32, 32)] * 12
    assert all(torch.equal(a, b) for a, b in zip(plain, both[::2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(both, typical_images(encoder, found), strict=True))
    assert all(0 <= float(image.mean()) <= 1 for image in both)


@pytest.mark.parametrize("layers", ["", "level9"])
def test_layers_that_cannot_be_are_refused_and_nothing_is_kept(layers: str, home: Path) -> None:
    with pytest.raises((UsageError, ModelError)):
        linear_inverse(FLAT, layers, device="cpu")
    assert not home.exists() or not any(path.is_file() for path in home.rglob("*"))


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    linear_inverse(FLAT, "level1", device="cpu", progress=lambda done, of: told.append((done, of)))
    assert (0, 6) in told
    assert (5, 6) in told
    assert json.dumps(told)
