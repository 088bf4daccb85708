"""A trained model of nnU-Net by its folder: decoders trained for it, and a scan brought back by them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.cli.app import main

from .. import tiny_nnunet


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for dynamic-network-architectures, for child processes too."""
    folder = tmp_path / "lib" / "dynamic_network_architectures" / "architectures"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "unet.py").write_bytes(Path(tiny_nnunet.__file__).read_bytes())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    for name in [name for name in sys.modules if name.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.slow
def test_decoders_are_trained_and_bring_a_scan_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = tiny_nnunet.model(tmp_path / "m", schemes=["ZScoreNormalization"], channels=("t1",))
    scans = tmp_path / "scans"
    scans.mkdir()
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in (30, 28, 20)), indexing="ij")
    affine = np.diag([1.5, 1.5, 2.2, 1.0])
    for seed in range(3):
        values = (400 + 300 * np.sin(x + z + seed) * np.cos(y)).round().astype(np.int16)
        nib.save(nib.Nifti1Image(values, affine), scans / f"{seed}.nii.gz")

    def medrecon(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        return out

    layers = "encoder.stages.0,encoder.stages.1"
    few = ("max_epochs=1", "iterations_per_epoch=2", "fit_batches=2")
    settings = [word for each in few for word in ("--set", each)]
    run = tmp_path / "run"
    words = ["--encoder", trained, "--layers", layers, "--held-out", "2.nii.gz", *settings]
    medrecon("train", scans, run, *words)
    made = json.loads(
        medrecon("reconstruct", scans / "2.nii.gz", tmp_path / "out", "--bundle", run, "--json")
    )
    assert made
    source = nib.load(scans / "2.nii.gz")
    for name in layers.split(","):
        back = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert back.shape == source.shape
        np.testing.assert_allclose(back.affine, source.affine, atol=1e-4)
        values = np.asarray(back.dataobj, float)
        assert np.isfinite(values).all()
        assert values.std() > 0
