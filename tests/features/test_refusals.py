"""Features that do not go with a decoder, encoders that give no one map: one clear line each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.errors import ModelError, OutOfMemoryError, OutputError, UsageError
from medrecon.features import decode, encode
from medrecon.io import find_one

Make = Callable[..., np.ndarray]


@pytest.fixture
def scan_path(tmp_path: Path, make_nifti: Make) -> Path:
    make_nifti(tmp_path / "t1.nii.gz", (20, 18, 9))
    return tmp_path / "t1.nii.gz"


def encoded(source: Path, bundle: Path, layers: str = "level4", **options: object) -> Path:
    target = source.parent / f"{bundle.name}.safetensors"
    encode(find_one(source), target, layers=layers, bundle=bundle, device="cpu", **options)
    return target


def refusal(features: Path, **options: object) -> str:
    output = features.parent / "refused.nii.gz"
    with pytest.raises(ModelError) as told:
        decode(features, output, device="cpu", **options)
    assert not output.exists()
    assert told.value.exit_code == 4
    assert "\n" not in str(told.value)
    assert str(features) in str(told.value)
    return str(told.value)


def test_other_weights_other_networks_other_layers(scan_path: Path, make_bundle: Callable) -> None:
    bundle = make_bundle("volume_transform_code")
    features = encoded(scan_path, bundle)
    other = make_bundle("volume_transform_code", seed=1, folder="retrained")
    assert "features of other weights" in refusal(features, bundle=other)
    assert "features of another network" in refusal(features, bundle=make_bundle("slice_transform_code"))
    assert "holds no layer 'level3'" in refusal(features, bundle=bundle, layers="level3")
    assert "did you mean 'level4'" in refusal(features, bundle=bundle, layers="lvl4")
    assert "not the image itself" in refusal(features, bundle=bundle, layers="input")
    # the shipped bundle of that name is taken where none is named, and has other weights
    assert "features of other weights" in refusal(features)


def test_a_decoder_that_was_trained_on_for_the_same_encoder_is_welcome(
    scan_path: Path, make_bundle: Callable
) -> None:
    bundle = make_bundle("volume_transform_code")
    other = make_bundle("volume_transform_code", folder="better")
    state = torch.load(other / "models" / "model.pt", weights_only=True)
    torch.save({k: v * 2 if "inversion" in k else v for k, v in state.items()}, other / "models" / "model.pt")
    features = encoded(scan_path, bundle)
    for name, which in (("a", bundle), ("b", other)):
        decode(features, scan_path.parent / f"{name}.nii", bundle=which, device="cpu")
    assert (scan_path.parent / "a.nii").read_bytes() != (scan_path.parent / "b.nii").read_bytes()


def test_a_file_cannot_choose_a_folder_whose_configuration_is_run(
    scan_path: Path, make_bundle: Callable
) -> None:
    bundle = make_bundle("volume_transform_code")
    meta = bundle / "configs" / "metadata.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"name": str(bundle)}))
    assert "which does not come with medrecon" in refusal(encoded(scan_path, bundle))


def test_encoding_names_what_is_wrong(scan_path: Path, make_bundle: Callable) -> None:
    bundle = make_bundle("volume_transform_code")
    with pytest.raises(ModelError, match="no layer 'level7'"):
        encoded(scan_path, bundle, "level7")
    with pytest.raises(ModelError, match="not a layer"):
        encoded(scan_path, bundle, "input")
    with pytest.raises(UsageError, match="no features of type 'int4'"):
        encoded(scan_path, bundle, dtype="int4")
    with pytest.raises(ModelError, match="has no 'encoder_weights'"):
        encoded(scan_path, bundle, encoder_weights="vgg.pt")
    encoded(scan_path, bundle)
    with pytest.raises(OutputError, match="exists already"):
        encoded(scan_path, bundle)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_full_disk_leaves_nothing(
    dtype: str, scan_path: Path, make_bundle: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = sorted(scan_path.parent.iterdir())
    bundle = make_bundle("volume_transform_code")
    with pytest.raises(OutputError, match="No space left"):
        encoded(scan_path, bundle, dtype=dtype)
    assert sorted(p for p in scan_path.parent.iterdir() if p.name != "bundles") == before


def test_the_size_is_checked_before_anything_is_computed(
    scan_path: Path, make_bundle: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    from medrecon.features import destinations

    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(destinations.shutil, "disk_usage", lambda _: usage)
    # level4 of 20 x 18 x 9 voxels: 512 channels at 3 x 3 x 2 positions as float32 on the way; 1/16 value a
    # voxel less a number for each position, and that number
    with pytest.raises(OutputError, match=r"need 37\.6 kB of disk, 1\.0 kB are free"):
        encoded(scan_path, make_bundle("volume_transform_code"))


def test_features_that_are_not_finite_are_not_kept(scan_path: Path, make_bundle: Callable) -> None:
    bundle = make_bundle("volume_transform_code")
    config = bundle / "configs" / "inference.yaml"
    broken = "$setattr(@built.encoder, 'basis', @built.encoder.basis * 1e38) or @built"
    config.write_text(
        config.read_text().replace("network: $load_network(", "built: $load_network(")
        + f"\nnetwork: {broken}\n"
    )
    with pytest.raises(ModelError, match="are not finite numbers"):
        encoded(scan_path, bundle)
    assert not list(scan_path.parent.glob("*.safetensors"))


def whole_bundle(make_bundle: Callable, window: list[int] | None = None) -> Path:
    """A bundle whose only layer sees the whole image."""
    bundle: Path = make_bundle("volume_transform_code", folder="whole")
    place = bundle / "configs" / "metadata.json"
    meta = json.loads(place.read_text())
    meta["network_def"] |= {
        "encoder": {"_target_": "tiny_frozen.Global"},
        "inversion": {"_target_": "tiny_frozen.Back"},
    }
    place.write_text(json.dumps(meta))
    torch.save({"": torch.zeros(1)}, bundle / "models" / "model.pt")
    config = bundle / "configs" / "inference.yaml"
    config.write_text(
        config.read_text().replace("$load_network(@network_def, @weights, @device)", "$@network_def")
    )
    return bundle


def test_a_layer_that_sees_the_whole_image_is_encoded_whole_or_refused(
    scan_path: Path, make_bundle: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrecon.features import tiles

    bundle = whole_bundle(make_bundle)
    features = encoded(scan_path, bundle, "norm")
    decode(features, scan_path.parent / "out.nii", bundle=bundle, device="cpu")
    monkeypatch.setattr(tiles, "free_bytes", lambda _: 100)
    with pytest.raises(OutOfMemoryError, match="see the whole image"):
        encoded(scan_path, bundle, "norm", overwrite=True)


def test_an_encoder_that_slides_a_window_is_refused_unless_the_image_is_one(
    scan_path: Path, make_bundle: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = whole_bundle(make_bundle)
    import tiny_frozen

    monkeypatch.setattr(tiny_frozen.Global, "window", (16, 16, 16))
    with pytest.raises(ModelError, match="slides a window of 16x16x16 over an image of 20x18x9"):
        encoded(scan_path, bundle, "norm")
    monkeypatch.setattr(tiny_frozen.Global, "window", (20, 18, 9))
    encoded(scan_path, bundle, "norm")
