"""What is refused before torch is imported, or MONAI: from the files, and from the network's own names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from .. import tiny_nnunet


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small file that says nothing of its units."""
    (tmp_path / "scans").mkdir()
    path = tmp_path / "scans" / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)), path)
    return path


def check_refused(
    lines: Iterable[list[object]], libraries: Path, code: int, said: str, torch: bool = False
) -> None:
    """Run commands one after the other in one process, where MONAI, and torch unless so, stay out."""
    words = [[str(word) for word in line] for line in lines]
    program = (
        f"import sys\nfrom medrecon.cli.app import main\nfor words in {words!r}:\n"
        "    try:\n        main(words)\n    except SystemExit as ended:\n"
        "        print(words[0], ended.code, 'torch' in sys.modules, 'monai' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(libraries)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.splitlines() == [f"{verb} {code} {torch} False" for verb, *_ in words], run.stderr
    assert len(run.stderr.splitlines()) == len(words), run.stderr
    assert all(said in line for line in run.stderr.splitlines()), run.stderr


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A place of a stand-in for dynamic-network-architectures."""
    folder = tmp_path / "lib" / "dynamic_network_architectures" / "architectures"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "unet.py").write_bytes(Path(tiny_nnunet.__file__).read_bytes())
    return tmp_path / "lib"


def words_of(verb: str, scan: Path, network: list[object], layer: str = "encoder.stages.0") -> list[object]:
    places = [scan.parent if verb in ("train", "sweep") else scan, scan.parent.parent / "out"]
    named = "--layer" if verb == "sweep" else "--layers"
    return [verb, *([] if verb == "layers" else places), *network, named, layer]


@pytest.mark.parametrize("fault", ["folder", "fold", "weights", "scheme", "networks"])
def test_what_the_files_alone_tell_is_refused_before_torch_is_imported(
    fault: str, scan: Path, libraries: Path, tmp_path: Path
) -> None:
    model = tiny_nnunet.model(tmp_path / "Dataset297_x", schemes=["MyNormalization"])
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "inference.yaml").write_text(
        "autoencoder_def: {_target_: UNet}\nunet_def: {_target_: UNet}\n"
    )
    network, said = {
        "folder": (["--encoder", libraries], "neither a MONAI bundle"),
        "fold": (["--encoder", model.parent, "--network", "fold_3"], "fold_3"),
        "weights": (["--encoder", "vgg16", "--weights", tmp_path / "none.pt"], "no such weight"),
        "scheme": (["--encoder", model], "normalise by MyNormalization"),
        "networks": (["--encoder", bundle], "name one of autoencoder_def, unet_def with --network"),
    }[fault]
    verbs = ["invert", "features", "reconstruct", "train", "sweep", "layers", "atlas"]
    check_refused((words_of(verb, scan, network) for verb in verbs), libraries, 4, said)


@pytest.mark.parametrize("fault", ["units", "missing", "unknown"])
def test_a_scan_that_does_not_suit_the_plans_is_refused_before_torch_is_imported(
    fault: str, scan: Path, libraries: Path, tmp_path: Path
) -> None:
    schemes = ["CTNormalization"] if fault == "units" else ["ZScoreNormalization"] * 2
    model = tiny_nnunet.model(tmp_path / "m", schemes=schemes, channels=("a", "b")[: len(schemes)])
    named = [f"a={scan}", f"c={scan}"]
    options, code, said = {
        "units": ([], 3, "takes CT in HU, and this scan is"),
        "missing": (named[:1], 3, "channel 'b' is missing"),
        "unknown": (named, 4, "no channel 'c'"),
    }[fault]
    network = ["--encoder", model, *(word for pair in options for word in ("--encoder-channels", pair))]
    verbs = ["invert", "features", "reconstruct", "atlas"] + (["train", "sweep"] if options else [])
    check_refused((words_of(verb, scan, network) for verb in verbs), libraries, code, said)


@pytest.mark.parametrize("fault", ["layer", "weights"])
def test_what_the_network_tells_is_refused_before_monai_is_imported(
    fault: str, scan: Path, libraries: Path, tmp_path: Path
) -> None:
    model, other = (
        tiny_nnunet.model(tmp_path / str(k), channels="ab"[:k], schemes=["NoNormalization"] * k)
        for k in (1, 2)
    )
    network, layer, said = {
        "layer": (["--encoder", model], "encoder.stages.9", "did you mean encoder.stages.1"),
        "weights": (
            ["--encoder", model, "--weights", other / "fold_0" / "checkpoint_final.pth"],
            "encoder.stages.1",
            "do not fit PlainConvUNet",
        ),
    }[fault]
    verbs = ["features", "reconstruct", "train", "sweep", "layers", "atlas"]
    if fault == "weights":
        verbs.append("invert")  # which looks for layers when it knows all of them
    check_refused((words_of(verb, scan, network, layer) for verb in verbs), libraries, 4, said, torch=True)
