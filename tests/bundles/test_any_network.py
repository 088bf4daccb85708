"""Decoders for any network: trained by its name alone, the run is a bundle like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import verify_metadata

import medrecon
from medrecon.bundle.config import ANY_NETWORK, Bundle, bundle_names, find_bundle, layers_of
from medrecon.bundle.workflow import check_encoder
from medrecon.encoders import fingerprint
from medrecon.errors import ModelError, UsageError
from medrecon.features import FeatureEncoder, decode
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.io import find_one
from medrecon.training.any_network import decoders_of, network_settings, training_results

from .names import Scans, Workflow

FLAT = {"what": "medrecon.encoders.PlainEncoder", "arguments": '{"spatial_dims": 2, "channels": [4, 6]}'}
UNET = {
    "what": "monai.networks.nets.UNet",
    "arguments": json.dumps(
        {
            "spatial_dims": 3,
            "in_channels": 2,
            "out_channels": 2,
            "channels": [4, 8],
            "strides": [2],
            "_intensity_": "zscore",
        }
    ),
}
LAYERS = {2: "level1,level2", 3: "model.0,model.1"}
RECIPES = {2: FLAT, 3: UNET}


def short(dims: int, folder: Path, run: Path, **more: Any) -> dict[str, Any]:
    return {
        **network_settings(RECIPES[dims], LAYERS[dims]),
        "dataset_dir": str(folder),
        "output_dir": str(run),
        "max_epochs": 2,
        "iterations_per_epoch": 2,
        "batch_size": 1,
        "fit_batches": 3,
        "patch_size": [16] * dims,
        "val_interval": 1,
        "validate#dataset#length": 1,
        "device": "cpu",
        "decoder_widths": [4, 4, 4],
        "decoder_depth": 1,
        **more,
    }


def test_the_pattern_is_found_by_name_listed_nowhere_and_no_use_without_a_network(
    repo: Path, tmp_path: Path
) -> None:
    root = find_bundle(ANY_NETWORK)
    assert ANY_NETWORK not in bundle_names()
    schema = tmp_path / "schema.json"
    schema.write_bytes((repo / "tests" / "bundles" / "meta_schema.json").read_bytes())
    verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=str(schema))
    with pytest.raises(ModelError, match="no network is named") as caught:
        layers_of(Bundle.open(root))
    assert "--encoder" in caught.value.remedy


@pytest.mark.parametrize("dims", [2, 3])
def test_a_run_is_a_bundle_that_reconstructs_encodes_and_decodes(
    dims: int, tmp_path: Path, scans: Scans, workflow: Workflow
) -> None:
    run = tmp_path / "run"
    made = workflow(find_bundle(ANY_NETWORK), "train.yaml", **short(dims, scans["folder"], run))
    network = made.parser.get_parsed_content("network")
    before = fingerprint(network.encoder)
    assert any(key.startswith("linear") and v.any() for key, v in network.inversion.state_dict().items())
    start = {key: value.clone() for key, value in network.inversion.named_parameters()}
    made.run()
    assert fingerprint(network.encoder) == before
    assert any(not torch.equal(start[key], value) for key, value in network.inversion.named_parameters())

    opened = Bundle.open(run)
    first, second = LAYERS[dims].split(",")
    assert [layer.name for layer in layers_of(opened)] == [first, second]
    assert opened.parser["layers"] == [first, second]
    assert opened.meta["network_data_format"]["inputs"]["image"]["spatial_shape"] == ["*"] * dims
    assert isinstance(opened.build("inferer"), SliceInferer if dims == 2 else VolumeInferer)
    scan = find_one(scans["folder"] / "mr.nii.gz")
    results = medrecon.reconstruct(scan, [first, f"{first}+{second}", "input"], bundle=run, device="cpu")
    assert np.array_equal(results["input"], scans["mr"])
    assert not np.array_equal(results[first], results[f"{first}+{second}"])

    FeatureEncoder.from_bundle(run, first, device="cpu").run(scan, tmp_path / "f.safetensors")
    decoded = decode(tmp_path / "f.safetensors", tmp_path / "d.nii.gz", bundle=run, device="cpu")
    assert decoded is not None
    provenance = json.loads((run / "docs" / "provenance.json").read_text())
    assert provenance["recipe"]["encoder"]["what"] == RECIPES[dims]["what"]
    assert [figure["epoch"] for figure in provenance["figures"]] == [1, 2]


def test_a_run_goes_on_and_other_weights_are_refused(
    tmp_path: Path, scans: Scans, workflow: Workflow
) -> None:
    root, whole, halves = find_bundle(ANY_NETWORK), tmp_path / "whole", tmp_path / "halves"
    workflow(root, "train.yaml", **short(2, scans["folder"], whole)).run()
    workflow(root, "train.yaml", **short(2, scans["folder"], halves, max_epochs=1)).run()
    (halves / "configs" / "metadata.json").unlink()
    once = torch.load(halves / "model.pt")
    made = workflow(root, "train.yaml", **short(2, scans["folder"], halves, resume=True))
    made.run()
    assert made.trainer.state.epoch == 2
    again = torch.load(halves / "model.pt")
    assert any(not torch.equal(once[key], again[key]) for key in once)

    network = Bundle.open(whole).network(torch.device("cpu"))
    with torch.no_grad():
        next(network.encoder.parameters()).add_(1)
    with pytest.raises(ModelError, match="other weights"):
        check_encoder(network)


def test_no_setting_stands_in_the_metadata_which_is_read_after_all_settings() -> None:
    assert [key for key in network_settings(UNET, "model.0") if key.startswith("_meta_")] == []


def test_every_layer_is_trained_alone_and_joined() -> None:
    assert training_results(["a", "b", "c"]) == {"a": 1, "b": 1, "c": 1, "a+b": 0.2, "a+c": 0.2, "b+c": 0.2}
    many = training_results([f"l{k}" for k in range(9)])
    assert len(many) == 9 + 8
    assert "l7+l8" in many


def test_settings_suit_the_network() -> None:
    flat, solid = network_settings(FLAT, "level2"), network_settings(UNET, "model.1+model.0")
    assert (flat["patch_size"], flat["batch_size"]) == ([128, 128], 6)
    assert (solid["patch_size"], solid["batch_size"]) == ([64, 64, 64], 1)
    assert solid["training_results"]["model.1+model.0"] == 1
    fixed = {**FLAT, "what": "monai.networks.nets.ViT"}
    vit = {"in_channels": 1, "img_size": [48, 32], "patch_size": [16, 16], "hidden_size": 24, "num_heads": 2}
    fixed["arguments"] = json.dumps({**vit, "spatial_dims": 2, "mlp_dim": 32, "num_layers": 1})
    assert network_settings(fixed, "blocks.0")["patch_size"] == [48, 32]


@pytest.mark.parametrize("layers", ["", "input", "level9"])
def test_layers_that_cannot_be_are_refused(layers: str) -> None:
    with pytest.raises((UsageError, ModelError)):
        network_settings(FLAT, layers)


@pytest.mark.parametrize("what", ["$print(1)", "@other", "%file", "net#1"])
def test_what_a_configuration_would_run_is_refused(what: str) -> None:
    with pytest.raises(UsageError, match="something else"):
        network_settings({"what": what}, "level1")


@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_generative_decoder_for_any_network(
    dims: int, tmp_path: Path, scans: Scans, workflow: Workflow
) -> None:
    """Trained beside the decoders of a run, which stay as they are; the second run has both, and draws."""
    root, first, second = find_bundle(ANY_NETWORK), tmp_path / "first", tmp_path / "second"
    workflow(root, "train.yaml", **short(dims, scans["folder"], first)).run()
    more = {
        **{"start_from": str(first), "measured_batches": 2, "widening_batches": 1, "average_steps": 0},
        **{"generative_widths": [4, 4], "generative_depths": [1, 1]},
    }
    workflow(root, "train.yaml", "generative.yaml", **short(dims, scans["folder"], second, **more)).run()
    files = [torch.load(run / "models" / "model.pt", weights_only=True) for run in (first, second)]
    assert all(torch.equal(value, files[1][key]) for key, value in files[0].items())

    layer, other = LAYERS[dims].split(",")
    scan = find_one(scans["folder"] / "mr.nii.gz")
    result = medrecon.reconstruct(scan, [other], bundle=second, device="cpu", samples=2, seed=3)
    assert result.samples[other].deviation.max() > 0
    assert result.samples[other].decoder_distance is not None
    with pytest.raises(ModelError, match="no generative decoder"):
        medrecon.reconstruct(scan, [f"{layer}+{other}"], bundle=second, device="cpu", samples=2)
    with pytest.raises(ModelError, match="has no generative decoder"):
        medrecon.reconstruct(scan, [other], bundle=first, device="cpu", samples=2)


def test_a_generative_decoder_wants_decoders_that_are_trained(tmp_path: Path) -> None:
    for start in (None, tmp_path, tmp_path / "none.pt"):
        with pytest.raises(UsageError, match="beside trained decoders") as caught:
            decoders_of(start)
        assert "start_from=RUN" in str(caught.value.remedy)
