"""Hostile checkpoints and configurations of a generator that is no part of the project: none runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medrecon.blocks.weights import read_weights
from medrecon.bundle.config import Bundle, layers_of
from medrecon.errors import ModelError

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool = shared_dir / "tools" / "badinputs.py"
    if not tool.is_file():
        pytest.skip("no generator of hostile inputs here")
    out = tmp_path_factory.mktemp("hostile")
    subprocess.run([sys.executable, str(tool), str(out)], check=True, capture_output=True, timeout=120)
    return out


def test_checkpoints_and_configurations_are_refused(corpus: Path, tmp_path: Path) -> None:
    cases = [
        c for c in json.loads((corpus / "cases.json").read_text()) if c["kind"] in ("checkpoint", "config")
    ]
    assert {c["verdict"] for c in cases} == {"refuse"}
    assert len(cases) == 12
    for case in cases:
        entry = corpus / case["entry"]
        with pytest.raises(ModelError) as refused:
            take(entry, tmp_path / case["case"])
        assert refused.value.remedy, case
        assert "\n" not in str(refused.value), case
    assert not list(corpus.rglob("PWNED"))


def take(entry: Path, bundle: Path) -> None:
    """Use a file as what it pretends to be."""
    if entry.suffix == ".pt":
        read_weights(entry)
    elif entry.suffix in (".json", ".yaml"):
        (bundle / "configs").mkdir(parents=True)
        (bundle / "configs" / "metadata.json").write_text("{}")
        shutil.copy(entry, bundle / "configs")
        layers_of(Bundle.open(bundle))
    else:
        Bundle.open(entry)
