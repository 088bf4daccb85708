"""Whose each scan is: what DICOM, a table or a pattern says, and never a guess."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.atlas.audit.patients import patients_of
from medrecon.errors import UsageError
from medrecon.io import Scan, ScanError, find_scans

Make = Callable[..., np.ndarray]


@pytest.fixture
def bids(tmp_path: Path, make_nifti: Make) -> Path:
    root = tmp_path / "bids"
    for number, name in enumerate(("sub-a/anat/sub-a_T1w", "sub-a/anat/sub-a_T2w", "sub-b/anat/sub-b_T1w")):
        path = root / f"{name}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_nifti(path, (6, 6, 6), seed=number)
    return root


def in_order(root: Path) -> list[Scan]:
    return sorted(find_scans(root).scans, key=lambda scan: str(scan.path))


def test_dicom_says_it(tmp_path: Path, make_ct: Make) -> None:
    for number in range(2):
        make_ct(tmp_path / "ct" / f"{number}", (8, 8, 3), seed=number)
    assert patients_of(find_scans(tmp_path / "ct").scans, tmp_path / "ct", None) == [0, 0]


def test_other_files_do_not_and_nothing_is_guessed(bids: Path) -> None:
    with pytest.raises(ScanError, match=r"3 of 3 scans do not say whose they are") as refused:
        patients_of(in_order(bids), bids, None)
    assert "--patients" in str(refused.value)


@pytest.mark.parametrize("pattern", ["sub-*", "sub-?"])
def test_folders_say_it_by_a_pattern(bids: Path, pattern: str) -> None:
    assert patients_of(in_order(bids), bids, pattern) == [0, 0, 1]


def test_names_of_files_say_it_by_a_pattern(tmp_path: Path, make_nifti: Make) -> None:
    for number, name in enumerate(("sub-1_T1w", "sub-1_T2w", "sub-10_T1w")):
        make_nifti(tmp_path / f"{name}.nii", (6, 6, 6), seed=number)
    numbers = dict(
        zip(
            [s.path.name for s in in_order(tmp_path)],
            patients_of(in_order(tmp_path), tmp_path, "sub-*"),
            strict=True,
        )
    )
    assert numbers["sub-1_T1w.nii"] == numbers["sub-1_T2w.nii"] != numbers["sub-10_T1w.nii"]


def test_a_scan_beside_the_pattern_is_refused(bids: Path, make_nifti: Make) -> None:
    make_nifti(bids / "extra.nii", (6, 6, 6), seed=9)
    with pytest.raises(ScanError, match="1 of 4"):
        patients_of(in_order(bids), bids, "sub-*")


def test_a_table_says_it_by_path_name_or_key(bids: Path, tmp_path: Path) -> None:
    scans = in_order(bids)
    table = tmp_path / "who.csv"
    table.write_text(
        f"scan,patient,age\nsub-a/anat/sub-a_T1w.nii,P1,40\nsub-a_T2w.nii,P2,41\n{scans[2].key},P1,40\n"
    )
    assert patients_of(scans, bids, str(table)) == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,who\na,b\n", "no columns scan and patient"),
        ("scan,patient\nsub-a_T1w.nii,\n", "line 2"),
        ("scan,patient\nsub-a_T1w.nii,P1\nsub-a_T1w.nii,P2\n", "second patient"),
        ("scan,patient\nsub-a_T1w.nii,P1\n", "2 of 3"),
        ("scan,patient\nsub-a_T1w.nii,P1\nsub-a/anat/sub-a_T1w.nii,P2\n", "several patients"),
    ],
)
def test_a_table_that_is_not_clear_is_refused(bids: Path, tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "who.csv"
    table.write_text(text)
    with pytest.raises(ScanError, match=said):
        patients_of(in_order(bids), bids, str(table))


def test_what_is_neither_a_table_nor_a_pattern_is_refused(bids: Path) -> None:
    with pytest.raises(UsageError, match="no file and no pattern"):
        patients_of(in_order(bids), bids, "who.csv")
