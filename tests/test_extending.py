"""What docs/contributing.md promises: a new encoder, loss, measure or format is named in three places."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medrecon.io import Scan, find_one, plan_outputs, read_scan, write_volume
from medrecon.io import formats as known
from medrecon.io.result_form import choose_form
from medrecon.io.value_form import ValueForm
from medrecon.io.volume_writer import VolumeWriter

ROOT = Path(__file__).resolve().parents[1]

NAMED = {
    "ResNetEncoder": ["encoders/__init__.pyi", "encoders/located.py", "encoders/resnet.py"],
    "MedicalNetEncoder": ["encoders/__init__.pyi", "encoders/located.py", "encoders/medicalnet.py"],
    "PlainEncoder": ["encoders/__init__.pyi", "encoders/plain.py"],
    "FusionDecoder": ["inversion/__init__.pyi", "inversion/fusion.py"],
    "TransposedDecoder": ["inversion/__init__.pyi", "inversion/transposed.py"],
    "CharbonnierLoss": ["losses/__init__.pyi", "losses/pixel.py"],
    "SpectralLoss": ["losses/__init__.pyi", "losses/structural.py"],
    "NiftiWriter": ["io/__init__.pyi", "io/formats.py", "io/nifti/writing.py"],
    "ItkWriter": ["io/__init__.pyi", "io/formats.py", "io/itk/writing.py"],
    "limit_lp_per_mm": ["evaluation/measures.py"],
    "labels_told_dct": ["evaluation/measures.py"],
}
"""One of each kind -> the files of the package in which it is named; a contract test is the other place."""


@pytest.mark.parametrize("name", NAMED)
def test_it_is_named_where_the_guide_says(name: str) -> None:
    word = re.compile(rf"\b{name}\b")
    files = (
        path
        for path in (ROOT / "medrecon").rglob("*.py*")
        if path.suffix in (".py", ".pyi") and word.search(path.read_text("utf-8"))
    )
    found = sorted(str(path.relative_to(ROOT / "medrecon")) for path in files)
    assert found == NAMED[name]


class ToyWriter(VolumeWriter):
    """A format of a few lines: numpy's own."""

    def form_of(self, volume: np.ndarray, scan: Scan) -> ValueForm:
        return choose_form(volume, scan, scaling=False)

    def save(self, stored: np.ndarray, scan: Scan, form: ValueForm, part: Path, final: Path) -> None:
        with part.open("wb") as stream:
            np.save(stream, stored)


def test_a_format_is_an_ending_and_a_writer(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(known.ENDINGS, "toy", (".toy",))
    monkeypatch.setitem(known._WRITERS, "toy", f"{ToyWriter.__module__}:ToyWriter")
    scan = find_one(repo / "sample_data" / "mr_head.nii.gz")
    (target,) = plan_outputs([scan], ["input"], tmp_path / "out.toy").values()
    written = write_volume(read_scan(scan), scan, target)
    assert (written.format, list(written.sha256)) == ("toy", ["out.toy"])
    assert np.array_equal(np.load(target).T, read_scan(scan))
