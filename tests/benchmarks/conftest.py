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
        from medrecon.bundle import Bundle

        folder = tmp_path / "bundles" / name
        (folder / "configs").mkdir(parents=True)
        (folder / "models").mkdir()
        for file in (ROOT / "bundles" / name / "configs").iterdir():
            (folder / "configs" / file.name).write_text(file.read_text("utf-8"), encoding="utf-8")
        place = folder / "configs" / "metadata.json"
        meta = json.loads(place.read_text("utf-8"))
        meta["network_def"]["encoder"].update(orders=4, steps=6)
        meta["network_def"]["inversion"].update(widths=[4, 4], depth=1, coarse_depth=1)
        meta["network_def"]["mixed_precision"] = False
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
