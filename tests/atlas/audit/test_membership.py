"""Members of the training: who is named, and what the error of a reconstruction tells of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medrecon.atlas.audit.membership import members, membership_rows, named_in_provenance
from medrecon.errors import ModelError
from medrecon.io import Scan, ScanError, find_scans

from ...audit_cohort import write_cohort


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Scan, ...]:
    found = find_scans(write_cohort(tmp_path / "scans", 2, 2)).scans
    return tuple(sorted(found, key=lambda scan: str(scan.path)))


def test_a_list_names_them_by_pattern_or_key(scans: tuple[Scan, ...], tmp_path: Path) -> None:
    named = tmp_path / "members.txt"
    named.write_text(f"sub-0_*\n\n{scans[2].key}\n")
    with pytest.raises(ScanError, match="3 scans are members, 1 are not"):
        members(scans, str(named), tmp_path)
    named.write_text("sub-0_*\n")
    assert members(scans, str(named), tmp_path).tolist() == [True, True, False, False]
    with pytest.raises(ScanError, match="cannot be read"):
        members(scans, str(tmp_path / "nothing.txt"), tmp_path)


def test_the_provenance_of_a_bundle_names_them(scans: tuple[Scan, ...], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not say which scans"):
        members(scans, "provenance", tmp_path)
    (tmp_path / "docs").mkdir()
    listed = {"data": {"scans": [{"key": scans[0].key}, {"key": scans[3].key}]}}
    (tmp_path / "docs" / "provenance.json").write_text(json.dumps(listed))
    assert members(scans, "provenance", tmp_path).tolist() == [True, False, False, True]


def test_own_bundles_name_theirs(repo: Path) -> None:
    assert len(named_in_provenance(repo / "bundles" / "volume_autoencoder")) >= 5


def test_members_that_are_easier_scans_are_no_sign_of_memory() -> None:
    rng = np.random.default_rng(0)
    inside = np.arange(40) < 20
    hard = np.where(inside, 1.0, 4.0) * rng.uniform(0.8, 1.2, 40)
    fair = membership_rows({"a": hard * rng.uniform(0.9, 1.1, 40)}, {"a": hard}, inside)
    by = {row["by"]: row for row in fair}
    assert by["error"]["auc"] == by["linear code"]["auc"] == 1.0
    ratio = by["error by that of the code"]
    assert ratio["low"] < 0.5 < ratio["high"]
    kept = membership_rows({"a": hard * np.where(inside, 0.5, 1.0)}, {"a": hard}, inside)
    assert kept[2]["auc"] == 1.0
    assert kept[2]["low"] > 0.5
