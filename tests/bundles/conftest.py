"""The bundles as they are, but with a network small enough for tests, in a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from ..small_bundles import shrink, starts_at_zero
from .names import CODES, DIMS, MakeBundle, Overrides, Scans, Training


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    """MONAI leaves the root of each bundle that it runs on `sys.path`."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture
def small_bundle(tmp_path: Path, repo: Path) -> Callable[[str], Path]:
    """`small_bundle(name)` -> a copy of that bundle whose network and weights are small."""
    return lambda name: write_small_bundle(repo / "bundles" / name, tmp_path / "elsewhere" / name)


def write_small_bundle(source: Path, target: Path) -> Path:
    """Copy a bundle's configurations, shrink its network and give it weights; once."""
    if target.is_dir():
        return target
    shutil.copytree(source / "configs", target / "configs")
    meta_file = target / "configs" / "metadata.json"
    meta = shrink(json.loads(meta_file.read_text()))
    meta_file.write_text(json.dumps(meta))
    torch.manual_seed(0)
    network: Any = ConfigParser({"_meta_": meta}).get_parsed_content("_meta_#network_def")
    for name, parameter in network.named_parameters():
        if starts_at_zero(name):
            torch.nn.init.normal_(parameter, std=0.01)
    (target / "models").mkdir()
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save(state, target / "models" / "model.pt")
    return target


@pytest.fixture
def scans(tmp_path: Path, make_ct: Callable[..., Any], make_nifti: Callable[..., Any]) -> dict[str, Any]:
    """A folder with an oblique CT series and an oblique MR-like NIfTI: {"folder", "ct", "mr"} (values)."""
    folder = tmp_path / "scans"
    ct = make_ct(folder / "series", (36, 30, 9))
    return {"folder": folder, "ct": ct, "mr": smooth_nifti(folder / "mr.nii.gz")}


def smooth_nifti(path: Path) -> np.ndarray:
    """Write an int16 NIfTI that looks more like an image than noise does."""
    import nibabel as nib

    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (33, 28, 17)), indexing="ij")
    values = (800 * np.exp(-2 * (x**2 + y**2 + z**2)) + 60 * np.sin(9 * x * y)).round().astype(np.int16)
    affine = np.array([[0.9, 0.1, 0, -8], [-0.1, 0.9, 0, 4], [0, 0, 2.0, 20], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(values, affine), path)
    return values


@pytest.fixture
def short_training(scans: Scans) -> Callable[..., dict[str, Any]]:
    """`short_training(name, output_dir, **options)` -> overrides that make train.yaml a matter of seconds."""
    return lambda name, output_dir, **options: {
        **training_overrides(name, scans["folder"], output_dir),
        **options,
    }


def training_overrides(name: str, dataset_dir: Path, output_dir: Path) -> dict[str, Any]:
    """Few steps on small patches."""
    return {
        **({"fit_patches": 3} if name in CODES else {"checkpoint_interval": 1}),
        "dataset_dir": str(dataset_dir),
        "output_dir": str(output_dir),
        "max_epochs": 3,
        "iterations_per_epoch": 2,
        "batch_size": 1,
        "patch_size": [16] * DIMS[name],
        "val_interval": 2,
        "validate#phantoms#length": 2,
        "phantom_count": 50,
        "device": "cpu",
    }


@pytest.fixture
def workflow() -> Callable[..., ConfigWorkflow]:
    """`workflow(bundle, *configs, kind=..., **overrides)` -> their workflow, initialized."""
    return open_workflow


def open_workflow(bundle: Path, *configs: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
    """The workflow of one or several configuration files of a bundle, initialized.

    A bundle that has the name of one that comes along is found by MONAI only once it runs: name its root.
    """
    files = [str(bundle / "configs" / config) for config in configs]
    options = {"workflow_type": kind, "logging_file": False, "bundle_root": str(bundle)}
    made = ConfigWorkflow(config_file=files, **options, **overrides)
    made.parser["configuration"] = made.parser
    made.initialize()
    return made


@pytest.fixture
def training(small_bundle: MakeBundle, short_training: Overrides) -> Training:
    """`training(name, run, *overlays, **options)` -> a small bundle's short training, initialized."""

    def begin(name: str, run: Path, *overlays: str, **options: Any) -> ConfigWorkflow:
        given = short_training(name, run, **options)
        return open_workflow(small_bundle(name), "train.yaml", *overlays, **given)

    return begin


@pytest.fixture
def run_config(
    one_thread: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, Path, dict[str, str]], None]:
    """`run_config(config, cwd, options)`: what `python -m monai.bundle run` does, from another directory.

    For one bundle in a process of its own, as a user would; for the others here, which is quicker.
    """

    def run(config: Path, cwd: Path, options: dict[str, Any]) -> None:
        if config.parents[1].name != "volume_autoencoder":
            monkeypatch.chdir(cwd)
            monai.bundle.run(config_file=str(config), logging_file=False, **options)
            return
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(config)]
        done = subprocess.run(
            [*command, *words], cwd=cwd, env=one_thread, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run


@pytest.fixture(scope="session")
def one_thread() -> dict[str, str]:
    """The environment of a subprocess: one thread, so that sums are made in one order, and no GPU."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
