"""The scripts of benchmarks/, bundles whose networks are tiny, and scans to run them on."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from ..small_bundles import shrink

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of benchmarks/ by its name; it finds its neighbours as when it is run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in SCRIPTS:
        sys.modules.pop(name, None)


@pytest.fixture
def toy_bundle(tmp_path: Path) -> Callable[[str], Path]:
    """A shipped bundle with a network of a few channels, untrained: `toy_bundle("slice_autoencoder")`."""

    def make(name: str) -> Path:
        from medrecon.bundle.config import Bundle

        folder = tmp_path / "bundles" / name
        (folder / "configs").mkdir(parents=True)
        (folder / "models").mkdir()
        for file in (ROOT / "bundles" / name / "configs").iterdir():
            (folder / "configs" / file.name).write_text(file.read_text("utf-8"), encoding="utf-8")
        place = folder / "configs" / "metadata.json"
        meta = shrink(json.loads(place.read_text("utf-8")))
        place.write_text(json.dumps(meta), encoding="utf-8")
        torch.save(Bundle.open(folder).architecture().state_dict(), folder / "models" / "model.pt")
        return folder

    return make


@pytest.fixture
def scans(tmp_path: Path, make_ct: Callable[..., np.ndarray], make_nifti: Callable[..., np.ndarray]) -> Path:
    """A CT series, two NIfTI files (one of them a CT that cannot say so), and a series with a gap."""
    folder = tmp_path / "scans"
    make_ct(folder / "ct_chest", (32, 36, 6))
    make_ct(folder / "ct_gap", (16, 16, 6), leave_out=2, seed=1)
    make_nifti(folder / "mr_head.nii.gz", (34, 32, 18))
    make_nifti(folder / "ct_said_by_name.nii.gz", (20, 32, 18), seed=1)
    return folder


THEIR_NETWORK = """
import torch


class Latent:
    def __init__(self, values):
        self.values = values

    def mode(self):
        return self.values


class AutoencoderKL(torch.nn.Module):
    def __init__(self, ddconfig, embed_dim):
        super().__init__()
        print("it says what it builds")
        self.config = dict(ddconfig, embed_dim=embed_dim)

    def encode(self, image):
        return Latent(torch.nn.functional.avg_pool{dims}d(image, 4))

    def decode(self, latent):
        return torch.nn.functional.interpolate(latent, scale_factor=4)
"""


@pytest.fixture
def medvae_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package medvae whose networks keep the mean of 4 x 4 (x 4) voxels, as hard to import as the real one.

    The real one's `__init__` needs some thirty packages, and its networks say on stdout what they build.
    """
    folder = tmp_path / "site"
    models = folder / "medvae" / "models"
    models.mkdir(parents=True)
    (folder / "medvae" / "__init__.py").write_text("raise ImportError('a package that is not here')")
    (models / "__init__.py").touch()
    for name, dims in (("autoencoder_kl", 2), ("autoencoder_kl_3d", 3)):
        (models / f"{name}.py").write_text(THEIR_NETWORK.replace("{dims}", str(dims)))
    facts = folder / "medvae-0.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: medvae\nVersion: 0.0\n")
    (folder / "einops.py").touch()
    _forget_medvae()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    _forget_medvae()


def _forget_medvae() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "medvae"]:
        del sys.modules[name]
