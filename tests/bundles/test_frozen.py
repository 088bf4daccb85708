"""The bundles over somebody else's network: nothing without its weights, nothing of it in theirs, frozen."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata
from monai.networks.nets import SegResNet
from safetensors.torch import save_file

from medrecon.bundle.config import Bundle
from medrecon.encoders import DeepbetEncoder, VGGEncoder, fingerprint
from medrecon.errors import ModelError, known_cause
from medrecon.evaluation import compare_geometry, fidelity
from medrecon.inference.consistency import feature_distance
from medrecon.inference.pipeline import Pipeline
from medrecon.io import find_one, find_scans, read_scan

from .names import MakeBundle, Overrides, Scans, Workflow

NAMES = ["frozen_encoder_inversion", "brain_encoder_inversion"]
ENCODERS = {"frozen_encoder_inversion": VGGEncoder, "brain_encoder_inversion": DeepbetEncoder}
FILES = {
    "frozen_encoder_inversion": "vgg16_features.safetensors",
    "brain_encoder_inversion": "deepbet_bbox.safetensors",
}
DEEP = {"frozen_encoder_inversion": "relu4_3", "brain_encoder_inversion": "down1"}
SHALLOW = {"frozen_encoder_inversion": "relu1_2", "brain_encoder_inversion": "stem"}
bundles = pytest.mark.parametrize("name", NAMES)
LONG = pytest.mark.parametrize("name", [NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of random weights for each encoder."""
    files = {}
    for name, build in ENCODERS.items():
        torch.manual_seed(3)
        files[name] = tmp_path_factory.mktemp(name) / FILES[name]
        save_file(build().state_dict(), files[name])
    return files


@pytest.fixture
def bundle(narrow: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`bundle(name)` -> a copy with a narrow decoder, made for the random weights."""
    return lambda name: Path(shutil.copytree(narrow(name), tmp_path / "elsewhere" / name))


@pytest.fixture(scope="session")
def narrow(
    tmp_path_factory: pytest.TempPathFactory, repo: Path, weights: dict[str, Path]
) -> Callable[[str], Path]:
    """What `bundle` copies, made once."""

    @cache
    def make(name: str) -> Path:
        target = tmp_path_factory.mktemp("narrow") / name
        shutil.copytree(repo / "bundles" / name / "configs", target / "configs")
        meta_file = target / "configs" / "metadata.json"
        meta = json.loads(meta_file.read_text())
        meta["network_def"]["inversion"].update(widths=[4, 4, 4], depth=1)
        meta["network_def"]["mixed_precision"] = False
        meta_file.write_text(json.dumps(meta))
        network: Any = ConfigParser(
            {"_meta_": meta, "encoder_weights": str(weights[name])}
        ).get_parsed_content("_meta_#network_def")
        network.inversion.remember(fingerprint(network.encoder))
        (target / "models").mkdir()
        state = {key: value.half() for key, value in network.inversion.state_dict().items()}
        torch.save(state, target / "models" / "model.pt")
        return target

    return make


@pytest.fixture
def training(scans: Scans, weights: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """`training(name, output_dir, **options)` -> overrides that make train.yaml a matter of seconds."""

    def overrides(name: str, output_dir: Path, **options: Any) -> dict[str, Any]:
        brain = name == "brain_encoder_inversion"
        size = [64, 64, 64] if brain else [32, 32]
        small = {"geometry#1#spatial_size": size, "phantom_count": 2} if brain else {}
        return {
            "dataset_dir": str(scans["folder"]),
            "output_dir": str(output_dir),
            "encoder_weights": str(weights[name]),
            "max_epochs": 2,
            "iterations_per_epoch": 2,
            "batch_size": 1,
            "fit_batches": 10,
            "patch_size": size,
            "val_interval": 2,
            "validate#dataset#length": 1,
            "device": "cpu",
            **small,
            **options,
        }

    return overrides


@bundles
def test_metadata_and_commands(name: str, repo: Path, tmp_path: Path) -> None:
    configs = repo / "bundles" / name / "configs"
    schema = shutil.copy(repo / "tests" / "bundles" / "meta_schema.json", tmp_path / "meta_schema.json")
    verify_metadata(meta_file=str(configs / "metadata.json"), filepath=str(schema))
    assert json.loads((configs / "metadata.json").read_text())["name"] == name
    for path in configs.glob("*.yaml"):
        first = path.read_text().splitlines()[0]
        assert f"bundles/{name}/configs/{path.name}" in first
        assert "--dataset_dir" in first
    assert "Apache License, Version 2.0" in (repo / "bundles" / name / "LICENSE").read_text()


@LONG
def test_trained_small_it_is_a_bundle_without_the_encoder(
    name: str,
    tmp_path: Path,
    bundle: MakeBundle,
    training: Overrides,
    workflow: Workflow,
    weights: dict[str, Path],
    scans: Scans,
) -> None:
    """Trained, resumed, used; the encoder is the same to the last bit, and no part of what is written."""
    source = bundle(name)
    made = workflow(source, "train.yaml", **training(name, tmp_path / "run"))
    assert made.check_properties() == []
    network = made.parser.get_parsed_content("network")
    before = fingerprint(network.encoder)
    start = {key: value.clone() for key, value in network.inversion.state_dict().items()}
    assert any(key.startswith("linear") and value.any() for key, value in start.items()), "fitted first"
    made.run()
    assert fingerprint(network.encoder) == before
    assert not network.encoder.training
    assert not any(p.requires_grad for p in network.encoder.parameters())
    after = network.inversion.state_dict()
    fitted = ("linear", "mean", "scale")
    changed = {key for key in start if not torch.equal(start[key], after[key])}
    assert changed
    assert not [key for key in changed if key.startswith(fitted) or key.endswith(fitted)]
    kept = torch.load(tmp_path / "run" / "models" / "model.pt", weights_only=True)
    assert kept.keys() == after.keys()
    again = workflow(source, "train.yaml", **training(name, tmp_path / "run", resume=True, max_epochs=2))
    resumed = again.parser.get_parsed_content("network").inversion
    assert not any(value.any() for key, value in resumed.state_dict().items() if key.startswith("linear"))
    again.run()
    assert all(torch.equal(value, after[key]) for key, value in resumed.state_dict().items())

    scan = find_scans(scans["folder"] / "mr.nii.gz").scans[0]
    results = [DEEP[name], f"{SHALLOW[name]}+{DEEP[name]}", "input"]
    pipeline = Pipeline.from_bundle(
        tmp_path / "run",
        scans=[scan],
        output=tmp_path / "out",
        layers=results,
        device="cpu",
        overrides={"encoder_weights": weights[name]},
    )
    outputs = pipeline.run(scan).outputs
    values = read_scan(scan)
    assert np.array_equal(read_scan(find_one(outputs["input"])), values)
    for result in results:
        found = find_one(outputs[result])
        assert compare_geometry(scan.affine, scan.shape, found.affine, found.shape, 1e-5) == []
    joined = fidelity(values, read_scan(find_one(outputs[results[1]])), units="")
    assert joined.psnr > 12, "the linear inverse of the shallow layer is there from the start"


@pytest.mark.parametrize("overlay", [pytest.param("cached.yaml", marks=pytest.mark.slow), "baseline.yaml"])
def test_overlays_that_change_the_network(
    overlay: str,
    tmp_path: Path,
    bundle: MakeBundle,
    training: Overrides,
    workflow: Workflow,
    weights: dict[str, Path],
    scans: Scans,
) -> None:
    """What they leave is a bundle, for the very encoder."""
    name, layer = "frozen_encoder_inversion", "relu3_3"
    extra = {"patch_count": 3} if overlay == "cached.yaml" else {"layer": layer}
    made = workflow(bundle(name), "train.yaml", overlay, **training(name, tmp_path / "run", **extra))
    made.run()
    network = made.parser.get_parsed_content("network_def")
    if overlay == "cached.yaml":
        assert network.encoder.misses <= 3 * len(network.inversion.names)
        assert network.encoder.hits > 0
        assert network.inversion.encoder_fingerprint == fingerprint(VGGEncoder(weights=weights[name]))
    scan = find_scans(scans["folder"] / "mr.nii.gz").scans[0]
    overrides = {"encoder_weights": weights[name]}
    pipeline = Pipeline.from_bundle(
        tmp_path / "run",
        scans=[scan],
        output=tmp_path / "out",
        layers=layer,
        device="cpu",
        overrides=overrides,
    )
    assert find_one(pipeline.run(scan).outputs[layer]).shape == scan.shape


@pytest.mark.slow
@pytest.mark.parametrize("overlays", [("perceptual.yaml",), ("perceptual.yaml", "adversarial.yaml")])
def test_overlays(
    overlays: tuple[str, ...], tmp_path: Path, bundle: MakeBundle, training: Overrides, workflow: Workflow
) -> None:
    name = "frozen_encoder_inversion"
    extra = {"discriminator_def#channels": 4, "discriminator_def#num_layers_d": 1, "generator_loss#start": 0}
    made = workflow(
        bundle(name),
        "train.yaml",
        *overlays,
        **training(name, tmp_path / "run", max_epochs=1, **(extra if len(overlays) == 2 else {})),
    )
    made.run()
    terms = made.parser.get_parsed_content("loss_function").last
    assert {"psnr", "perceptual", "consistency"} <= terms.keys()
    assert all(np.isfinite(list(terms.values())))
    assert (tmp_path / "run" / "models" / "model.pt").is_file()


@pytest.mark.slow  # test_any_network.py and test_sweep.py refuse the same
@bundles
def test_without_the_weights_of_the_network_or_with_others_it_is_refused(
    name: str, tmp_path: Path, bundle: MakeBundle, scans: Scans, training: Overrides, workflow: Workflow
) -> None:
    torch.manual_seed(4)
    other = tmp_path / "other.safetensors"
    save_file(ENCODERS[name]().state_dict(), other)
    scan = find_scans(scans["folder"] / "mr.nii.gz").scans[0]
    folder = bundle(name)
    for given, said in [({}, "--encoder-weights"), ({"encoder_weights": other}, "other weights")]:
        with pytest.raises(ModelError, match=said):
            Pipeline.from_bundle(folder, scans=[scan], output=tmp_path / "out", overrides=given)
    with pytest.raises(RuntimeError) as refused:
        workflow(folder, "train.yaml", **training(name, tmp_path / "run", encoder_weights=None))
    assert "does not hold the weights" in str(known_cause(refused.value))
    assert not (tmp_path / "out").exists()


@bundles
def test_the_decoders_that_come_along_fit(name: str, repo: Path, workflow: Workflow) -> None:
    folder = repo / "bundles" / name
    made = workflow(folder, "inference.yaml", kind="inference", device="cpu")
    network = made.parser.get_parsed_content("network_def")
    assert len(network.layers()) >= 4
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    network.inversion.load_state_dict(state)
    assert (folder / "models" / "model.pt").stat().st_size <= 24 << 20
    assert network.inversion.head.conv.weight.any(), "these weights were never trained"
    assert all(linear.weight.any() for linear in network.inversion.linear.values())


@pytest.mark.slow
@pytest.mark.real_data
def test_decoders_on_a_scan_that_nobody_was_trained_on(repo: Path, shared_dir: Path, tmp_path: Path) -> None:
    """The torso of the sample data through VGG16's true weights: deeper keeps less, all keep much."""
    scan = find_one(repo / "sample_data" / "ct_torso")
    layers = ["relu1_2", "relu3_3", "relu5_3"]
    pipeline = Pipeline.from_bundle(
        "frozen_encoder_inversion",
        scans=[scan],
        output=tmp_path / "out",
        layers=layers,
        device="cpu",
        output_format="nifti",
        overrides={"encoder_weights": shared_dir / "weights" / FILES["frozen_encoder_inversion"]},
    )
    outputs = pipeline.run(scan).outputs
    psnr = [fidelity(read_scan(scan), read_scan(find_one(outputs[k])), units="HU").psnr for k in layers]
    assert psnr[0] > 38
    assert psnr[1] > 27
    assert psnr[2] > 19
    assert psnr == sorted(psnr, reverse=True)


@pytest.mark.slow  # test_any_network.py trains for others
def test_another_network_by_the_overlay_that_the_docs_show(
    repo: Path, tmp_path: Path, bundle: MakeBundle, training: Overrides, workflow: Workflow, scans: Scans
) -> None:
    """A SegResNet of MONAI's with a checkpoint: trained on, then used from the run's folder."""
    name = "frozen_encoder_inversion"
    text = (repo / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")
    (overlay,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    source = bundle(name)
    (source / "configs" / "own.yaml").write_text(overlay)
    checkpoint = tmp_path / "segresnet.pt"
    torch.save(SegResNet(2, 16, 1, 3).state_dict(), checkpoint)
    options = {"network_def#encoder#window": [32, 32], "encoder_weights": str(checkpoint)}
    made = workflow(source, "train.yaml", "own.yaml", **training(name, tmp_path / "run", **options))
    encoder = made.parser.get_parsed_content("network_def").encoder
    assert [info.stride for info in encoder.layers()] == [(1, 1), (2, 2), (4, 4), (8, 8)]
    made.run()
    scan = find_scans(scans["folder"] / "mr.nii.gz").scans[0]
    pipeline = Pipeline.from_bundle(
        tmp_path / "run", scans=[scan], output=tmp_path / "out", layers="down_layers.2", device="cpu"
    )
    made_of = find_one(pipeline.run(scan).outputs["down_layers.2"])
    assert compare_geometry(scan.affine, scan.shape, made_of.affine, made_of.shape, 1e-5) == []


def test_its_generative_decoder_trained_small_draws_and_comes_nearer_to_the_features(
    tmp_path: Path,
    bundle: MakeBundle,
    training: Overrides,
    workflow: Workflow,
    weights: dict[str, Path],
    scans: Scans,
) -> None:
    name, run = "frozen_encoder_inversion", tmp_path / "run"
    small = {"_meta_#generative_def#widths": [4, 4], "_meta_#generative_def#depths": [1, 1]}
    more = {"measured_batches": 2, "widening_batches": 1, "average_steps": 0, **small}
    workflow(bundle(name), "train.yaml", "generative.yaml", **training(name, run, **more)).run()
    made = Bundle.open(run, {"samples": 2, "device": "cpu", "encoder_weights": weights[name]})
    sampler = made.build("sampler")
    assert sampler.by_gradient
    image = torch.rand(1, 1, 48, 40, 2, generator=torch.Generator().manual_seed(0))
    base, off = sampler.base(image, "relu4_3"), []
    for corrections in (0, 6):
        sampler.corrections = corrections
        drawn = sampler.draw(base, "relu4_3", 0, image=image)
        off.append(feature_distance(sampler.network, sampler.inferer, image, drawn, "relu4_3"))
    assert off[1] < off[0]
    with pytest.raises(ModelError, match="no generative decoder for 'relu5_3'"):
        sampler.check(["relu5_3"])


def test_the_generative_decoder_that_comes_along_fits(repo: Path, workflow: Workflow) -> None:
    folder = repo / "bundles" / "frozen_encoder_inversion"
    made = workflow(folder, "inference.yaml", kind="inference", device="cpu")
    flow = made.parser.get_parsed_content("_meta_#generative_def")
    file = folder / "models" / "generative.pt"
    flow.load_state_dict(torch.load(file, weights_only=True))
    assert file.stat().st_size <= 4 << 20
    assert flow.results == ("relu4_3",)
    assert flow.network_fingerprint
    assert bool((flow.widening("relu4_3") != 1).all())


@pytest.mark.slow
@pytest.mark.real_data
def test_samples_of_a_scan_that_nobody_was_trained_on(repo: Path, shared_dir: Path) -> None:
    """Encoded again they are nearer to the features than the decoder's answer, by true weights."""
    weights = shared_dir / "weights" / FILES["frozen_encoder_inversion"]
    asked = {"samples": 2, "device": "cpu", "encoder_weights": weights}
    sampler = Bundle.open("frozen_encoder_inversion", asked).build("sampler")
    scan = read_scan(find_one(repo / "sample_data" / "ct_torso"))
    middle = torch.from_numpy(np.asarray(scan, np.float32))[16:80, 16:80, scan.shape[2] // 2]
    image = ((middle + 1024) / 4095)[None, None, ..., None]
    base = sampler.base(image, "relu4_3")
    drawn = sampler.draw(base, "relu4_3", 0, image=image)
    decoder, sample = (
        feature_distance(sampler.network, sampler.inferer, image, each, "relu4_3") for each in (base, drawn)
    )
    assert sample is not None
    assert decoder is not None
    assert sample <= decoder
