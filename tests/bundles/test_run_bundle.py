"""A training run leaves a bundle that reconstructs with the network as it was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from medrecon.bundle.config import Bundle, find_bundle, layers_of
from medrecon.errors import ModelError, known_cause
from medrecon.inference.pipeline import Pipeline
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.io import find_one, find_scans, read_scan
from medrecon.training.run_bundle import run_configs, usable_results

from .names import CODES, DIMS, LONG, NETWORKS, MakeBundle, Overrides, RunConfig, Scans, Training

bundles = pytest.mark.parametrize("name", [*NETWORKS, "slice_transform_code"])
DEPTH = "_meta_#network_def#inversion#depth"


def deep(name: str, depth: int) -> dict[str, Any]:
    """The override that gives a small decoder another depth where it is finest."""
    return {DEPTH: depth} if name in CODES else {f"{DEPTH}s": [depth, 1, 1, 1]}


@LONG
def test_the_run_reconstructs_as_the_trained_network_does(
    name: str,
    tmp_path: Path,
    scans: Scans,
    small_bundle: MakeBundle,
    training: Training,
    run_config: RunConfig,
) -> None:
    bundle, run = small_bundle(name), tmp_path / "run 1"
    made = training(name, run, **deep(name, 2))
    made.trainer.run()
    trained = made.parser.get_parsed_content("average").network
    finest = trained.inversion.fine if name in CODES else trained.inversion.trunks["level2"]
    assert len(finest) == 2, "another depth than the bundle's own"
    for parameter in trained.parameters():
        parameter.data = parameter.data.half().float()
    (scan,) = find_scans(scans["folder"] / "mr.nii.gz").scans
    Pipeline.from_bundle(
        run, scans=[scan], output=tmp_path / "out.nii.gz", layers="level4", device="cpu"
    ).run(scan)
    written = read_scan(find_one(tmp_path / "out.nii.gz"))

    item = Bundle.open(bundle).build("preprocessing")({"image": scan})
    inferer = (SliceInferer if DIMS[name] == 2 else VolumeInferer)(["level4"])
    with torch.inference_mode():
        image = inferer(item["image"][None], trained)
    low, high = (item["image"].applied_operations[-1]["extra_info"][end] for end in ("low", "high"))
    expected = np.rint(image[0, 0].numpy() * (high - low) + low)
    assert np.ptp(expected) > 100
    assert np.array_equal(written, expected)

    run_config(
        run / "configs" / "evaluate.yaml",
        tmp_path,
        {"dataset_dir": str(scans["folder"] / "mr.nii.gz"), "output_dir": str(tmp_path / "figures")},
    )
    figures = json.loads((tmp_path / "figures" / "metrics.json").read_text())
    assert figures["model"] == f"{name}_run 1"
    assert {"level4", "dct"} < {row["result"] for row in figures["results"]}


@bundles
def test_it_says_what_was_trained_and_nothing_twice(
    name: str, tmp_path: Path, small_bundle: MakeBundle, training: Training
) -> None:
    bundle, run = small_bundle(name), tmp_path / "run"
    training(name, run, max_epochs=1, training_results={"level3": 1}, **deep(name, 0)).trainer.run()
    assert find_bundle(run) == run
    assert sorted(path.name for path in (run / "configs").iterdir()) == [
        "evaluate.yaml",
        "inference.json",
        "inference.yaml",
        "metadata.json",
    ]
    assert (run / "models" / "model.pt").read_bytes() == (run / "model.pt").read_bytes()
    meta = json.loads((run / "configs" / "metadata.json").read_text().replace("::", "#"))  # MONAI's new way
    before = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert meta.pop("name") == f"{name}_run"
    ((knob, value),) = deep(name, 0).items()
    knob = knob.rsplit("#", 1)[-1]
    assert meta["network_def"]["inversion"].pop(knob) == value
    del before["name"], before["network_def"]["inversion"][knob]
    assert "see docs/provenance.json" in meta.pop("data_source")
    assert "docs/provenance.json" in meta.pop("eval_metrics")["note"]
    del before["data_source"], before["eval_metrics"]
    assert meta == before
    assert (run / "docs" / "provenance.json").is_file()
    content = ConfigParser.load_config_file(run / "configs" / "inference.yaml")
    source = ConfigParser.load_config_file(bundle / "configs" / "inference.yaml")
    assert content.pop("layers") == ["level3"], "what was not trained is not the default"
    del source["layers"]
    assert json.loads(json.dumps(content).replace("::", "#")) == source
    assert [layer.name for layer in layers_of(Bundle.open(run))] == [f"level{k}" for k in range(1, 6)]


def test_facts_are_resolved_and_carried(tmp_path: Path) -> None:
    root = tmp_path / "source"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "inference.yaml").write_text(
        "imports: ['$import torch']\nencoder_weights: null\ngeometry: []\nlayers: [deep]\n"
        "network_def: '@_meta_#network_def'\nweights: elsewhere\ndevice: cpu\nnetwork: $load(@network_def)\n"
    )
    weights = tmp_path / "vgg.pt"
    weights.touch()
    parser = ConfigParser(
        {
            "imports": ["$import torch", "$from math import prod"],
            "_meta_": {
                "name": "source",
                "network_def": {
                    "_target_": "torch.nn.Conv2d",
                    "in_channels": "@width",
                    "out_channels": "$@width * 2",
                    "kernel_size": "@kernel",
                },
            },
            "network_def": "@_meta_#network_def",
            "width": "$3 * @factor",
            "factor": 2,
            "kernel": "$torch.Size([3, 3])",
            "encoder_weights": weights,
            "geometry": [{"_target_": "Flipd", "keys": "image"}],
            "device": "$torch.device('cuda')",
            "network": "$train(@network_def)",
            "unrelated": "$1 / 0",
        }
    )
    parser.parse()
    files = run_configs(parser, root, "run")
    assert list(files) == ["inference.yaml", "metadata.json"]
    made = files["inference.yaml"]
    assert made["width"] == 6
    assert made["factor"] == 2
    assert made["kernel"] == [3, 3]
    assert made["encoder_weights"] == str(weights)
    assert made["geometry"] == [{"_target_": "Flipd", "keys": "image"}]
    assert (made["device"], made["network"]) == ("cpu", "$load(@network_def)")
    assert "unrelated" not in made
    rebuilt = ConfigParser({"_meta_": files["metadata.json"], **made}).get_parsed_content("network_def")
    assert (rebuilt.in_channels, rebuilt.out_channels, rebuilt.kernel_size) == (6, 12, (3, 3))


def test_a_network_that_was_replaced_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.yaml").write_text("network_def: '@_meta_#network_def'\n")
    other = {"_target_": "torch.nn.Identity"}
    config = {"_meta_": {"network_def": {"_target_": "torch.nn.ReLU"}}, "network_def": other}
    parser = ConfigParser(config)
    parser.parse()
    files = run_configs(parser, tmp_path, "run")
    assert files["inference.yaml"]["network_def"] == other
    assert "network_def" not in files["metadata.json"]


def test_what_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    parser = ConfigParser({"_meta_": {}, "network_def": {"_target_": "torch.nn.Identity", "a": object()}})
    with pytest.raises(ModelError, match="'network_def' holds"):
        run_configs(parser, tmp_path, "run")


def test_without_its_configuration_it_becomes_no_bundle(
    tmp_path: Path, small_bundle: MakeBundle, short_training: Overrides
) -> None:
    bundle, run = small_bundle(NETWORKS[1]), tmp_path / "run"
    options = short_training(NETWORKS[1], run, max_epochs=1)
    file = str(bundle / "configs" / "train.yaml")
    made = ConfigWorkflow(config_file=file, logging_file=False, bundle_root=str(bundle), **options)
    with pytest.raises(RuntimeError) as caught:
        made.initialize()
    assert isinstance(known_cause(caught.value), ModelError)
    made.parser["configuration"] = None
    made.initialize()
    made.run()
    assert (run / "model.pt").is_file()
    assert not (run / "configs").exists()


@pytest.mark.parametrize(
    ("offered", "trained", "usable"),
    [
        (["input", "a", "b", "c", "b+c"], ["b"], ["input", "a", "b"]),
        (["c"], ["b"], ["b"]),
        (["input", "c"], ["b+d"], ["input", "b+d"]),
        (["b", "b+c"], ["b", "b+c"], ["b", "b+c"]),
    ],
)
def test_results_that_were_not_trained_are_not_offered(
    offered: list[str], trained: list[str], usable: list[str]
) -> None:
    assert usable_results(offered, trained, complete={"a"}) == usable


def test_a_run_that_was_killed_at_the_very_end_becomes_a_bundle_by_a_resume(
    tmp_path: Path, training: Training
) -> None:
    run = tmp_path / "run"
    training(NETWORKS[1], run, max_epochs=1).trainer.run()
    before = (run / "model.pt").read_bytes()
    for name in ("configs", "models"):
        shutil.rmtree(run / name)
    again = training(NETWORKS[1], run, max_epochs=1, resume=True)
    again.trainer.run()
    assert again.trainer.state.epoch == 1
    assert (run / "models" / "model.pt").read_bytes() == before
    assert find_bundle(run) == run
