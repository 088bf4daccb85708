"""MONAI's own tools accept the bundles as they are: properties, metadata, network, exports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from .names import DIMS, LONG, NAMES, NETWORKS, NOT_SCRIPTED, VERSIONS, MakeBundle, Overrides, Scans, Workflow

bundles = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def schema(repo: Path, tmp_path: Path) -> Path:
    """A copy of the schema: `verify_metadata` takes a file that is there for one that it has downloaded."""
    return Path(shutil.copy(repo / "tests" / "bundles" / "meta_schema.json", tmp_path / "meta_schema.json"))


@bundles
def test_metadata_is_as_the_specification_says(name: str, repo: Path, schema: Path) -> None:
    meta = repo / "bundles" / name / "configs" / "metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(schema))
    content = json.loads(meta.read_text())
    assert content["name"] == name
    assert content["version"] in content["changelog"]
    shape = content["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert len(shape) == DIMS[name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "one"),
        ("copyright", None),
        ("network_data_format#inputs#image#num_channels", "1"),
        ("network_data_format#inputs#image#spatial_shape", ["?"]),
        ("network_data_format#outputs#pred", None),
        ("network_dat_format", {}),
        ("changelog", {"0.1.0": 3}),
    ],
)
def test_the_schema_finds_what_is_wrong(
    key: str, value: Any, repo: Path, schema: Path, tmp_path: Path
) -> None:
    content = json.loads((repo / "bundles" / NAMES[0] / "configs" / "metadata.json").read_text())
    *path, last = key.split("#")
    place = content
    for step in path:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    (tmp_path / "metadata.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))


@bundles
@pytest.mark.parametrize("config", ["inference.yaml", "train.yaml", "evaluate.yaml"])
@pytest.mark.parametrize("size", [1, 17, 32])
def test_network_takes_and_gives_what_metadata_says(name: str, config: str, size: int, repo: Path) -> None:
    configs = repo / "bundles" / name / "configs"
    verify_net_in_out(
        "network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / config),
        device="cpu",
        n=2,
        p=3,
        any=size,
    )


def test_a_network_that_gives_something_else_is_found(repo: Path) -> None:
    configs = repo / "bundles" / NAMES[1] / "configs"
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(
            "network_def",
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.yaml"),
            device="cpu",
            **{"_meta_#network_data_format#outputs#pred#num_channels": 2},
        )


@bundles
def test_nothing_is_missing(
    name: str, small_bundle: MakeBundle, workflow: Workflow, short_training: Overrides, tmp_path: Path
) -> None:
    bundle, training = small_bundle(name), short_training(name, tmp_path / "run")
    folder = training["dataset_dir"]
    more = [("adversarial.yaml",), ("generative.yaml",)] if name in NETWORKS else []
    for number, overlays in enumerate([(), *more]):
        options = {**training, "output_dir": str(tmp_path / f"run{number}")}
        assert workflow(bundle, "train.yaml", *overlays, **options).check_properties() == []
    for config in ("inference.yaml", "evaluate.yaml"):
        options = {"dataset_dir": folder, "output_dir": str(tmp_path / Path(config).stem), "device": "cpu"}
        made = workflow(bundle, config, kind="inference", **options)
        assert made.check_properties() == []
        assert made.version == VERSIONS[name]
        assert len(made.dataset_data) == 2


@bundles
def test_every_configuration_opens_with_its_command(name: str, repo: Path) -> None:
    """And the command names the file itself."""
    configs = repo / "bundles" / name / "configs"
    found = sorted(configs.glob("*.yaml"))
    more = ["adversarial", "generative"] if name in NETWORKS else []
    assert [path.stem for path in found] == sorted([*more, "evaluate", "inference", "multi_gpu", "train"])
    for path in found:
        first = path.read_text().splitlines()[0]
        assert first.startswith(
            "# torchrun " if path.stem == "multi_gpu" else "# python -m monai.bundle run "
        )
        assert f"bundles/{name}/configs/{path.name}" in first
        assert "--dataset_dir" in first
        assert "--output_dir" in first


def network_of(bundle: Path) -> torch.nn.Module:
    meta = json.loads((bundle / "configs" / "metadata.json").read_text())
    network: Any = ConfigParser({"_meta_": meta}).get_parsed_content("_meta_#network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    return network.eval()


@LONG
def test_torchscript(name: str, tmp_path: Path, small_bundle: MakeBundle) -> None:
    """Traced once, the network takes an image of any multiple of its stride, and carries its metadata."""
    bundle, dims = small_bundle(name), DIMS[name]
    configs, target = bundle / "configs", tmp_path / "model.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ckpt_export(
            "network_def",
            filepath=str(target),
            ckpt_file=str(bundle / "models" / "model.pt"),
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.yaml"),
            use_trace=True,
            input_shape=[1, 1, *[64] * dims],
        )
        extra = {"metadata.json": "", "inference.json": ""}
        exported = torch.jit.load(target, _extra_files=extra)
    assert json.loads(extra["metadata.json"])["name"] == name
    assert "inferer" in json.loads(extra["inference.json"])
    network = network_of(bundle)
    for shape in ([64] * dims, [32, 96, 64][:dims]):
        image = torch.rand(1, 1, *shape)
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image), rtol=0, atol=1e-5)


@bundles
@pytest.mark.filterwarnings("ignore")
def test_torchscript_by_scripting_works_or_is_excluded_by_name(
    name: str, tmp_path: Path, small_bundle: MakeBundle
) -> None:
    """The model zoo scripts each bundle that its list does not exclude."""
    bundle = small_bundle(name)
    scripted = True
    try:
        ckpt_export(
            "network_def",
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(bundle / "models" / "model.pt"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=str(bundle / "configs" / "inference.yaml"),
        )
    except (RuntimeError, ValueError):
        scripted = False
    assert scripted == (name not in NOT_SCRIPTED)


@pytest.mark.parametrize("name", ["brain_encoder_inversion", "frozen_encoder_inversion", *NAMES])
def test_what_the_model_zoo_asks_of_a_folder(name: str, repo: Path) -> None:
    """A licence, a page, metadata and a configuration of inference that name the same bundle, and weights."""
    bundle = repo / "bundles" / name
    meta = json.loads((bundle / "configs" / "metadata.json").read_text("utf-8"))
    assert meta["name"] == name
    assert meta["version"] == max(meta["changelog"], key=lambda each: tuple(map(int, each.split("."))))
    assert {"network_data_format", "monai_version", "pytorch_version", "numpy_version"} <= set(meta)
    for file in (
        "LICENSE",
        "docs/README.md",
        "models/model.pt",
        "configs/inference.yaml",
        "configs/train.yaml",
    ):
        assert (bundle / file).stat().st_size > 0, file
    torch.load(bundle / "models" / "model.pt", weights_only=True, map_location="meta")


def test_the_steps_of_a_workflow_in_the_zoo_s_order(
    small_bundle: MakeBundle, scans: Scans, tmp_path: Path
) -> None:
    bundle = small_bundle(NAMES[1])
    made = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.yaml"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(scans["folder"]),
        output_dir=str(tmp_path / "out"),
    )
    made.initialize()
    assert made.check_properties() == []
    made.run()
    made.finalize()
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.slow
def test_torchscript_from_the_command_line(
    tmp_path: Path, small_bundle: MakeBundle, one_thread: dict[str, str]
) -> None:
    bundle = small_bundle(NAMES[1])
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "ckpt_export", "network_def"]
    done = subprocess.run(
        [
            *command,
            *("--filepath", "model.ts", "--ckpt_file", str(bundle / "models" / "model.pt")),
            *("--meta_file", str(bundle / "configs" / "metadata.json")),
            *("--config_file", str(bundle / "configs" / "inference.yaml")),
            *("--use_trace", "true", "--input_shape", "[1,1,64,64]"),
            *("--_meta_#network_def#layers", "level3"),
        ],
        cwd=tmp_path,
        env=one_thread,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = network_of(bundle)(image, "level3")
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), expected, rtol=0, atol=1e-5)


@LONG
def test_torch_export(name: str, tmp_path: Path, small_bundle: MakeBundle) -> None:
    network, dims = network_of(small_bundle(name)), DIMS[name]
    image = torch.rand(1, 1, *[64] * dims)
    torch.export.save(torch.export.export(network, (image,)), tmp_path / "model.pt2")
    exported = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image), rtol=0, atol=1e-5)


@pytest.mark.slow
@bundles
def test_onnx(name: str, tmp_path: Path, small_bundle: MakeBundle) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network, dims = network_of(small_bundle(name)), DIMS[name]
    image = torch.rand(1, 1, *[64] * dims)
    torch.onnx.export(network, (image,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    other = image.flip(-1).square()  # not the image that it was made with: its multiplier is found anew
    (made,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(made), network(other), rtol=0, atol=1e-5)
