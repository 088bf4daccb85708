"""Hostile checkpoints and configurations of a generator that is no part of the project: none runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medrecon.blocks.weights import read_weights
from medrecon.bundle.config import Bundle, layers_of
from medrecon.errors import ModelError

from ..hostile import write_hostile

pytestmark = pytest.mark.real_data


def test_checkpoints_and_configurations_are_refused(shared_dir: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "hostile"
    _, cases = write_hostile(shared_dir, corpus, images=False)
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
