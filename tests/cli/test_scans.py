"""The verb `scans`: what it finds in a folder, and how it says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medrecon.cli.scans import orientation

from .conftest import Run

Make = Callable[..., np.ndarray]


def test_orientation() -> None:
    assert orientation(np.diag([-1.0, -1, 2, 1])) == "LPS"
    assert orientation(np.diag([0.5, 1, 2, 1])) == "RAS"
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert orientation(affine) == "RAS, oblique 20.0 deg"


def test_scans_lists_all_that_is_there(
    medrecon: Run, tmp_path: Path, make_ct: Make, make_nifti: Make
) -> None:
    make_ct(tmp_path / "a", description="Chest\x1b[31m", seed=1)
    make_ct(tmp_path / "b", description="gap", seed=2, leave_out=2)
    make_nifti(tmp_path / "t1.nii.gz")
    (tmp_path / "notes.txt").write_text("hello")
    code, out, err = medrecon("scans", tmp_path, "--json", "--names-from-source")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert {tuple(scan["shape"]) for scan in data["scans"]} == {(20, 24, 6), (18, 16, 10)}
    ct = next(scan for scan in data["scans"] if scan["modality"] == "CT")
    assert (ct["units"], ct["files"], ct["spacing"]) == ("HU", 6, [0.7, 0.8, 2.5])
    assert [fault["exit_code"] for fault in data["refused"]] == [3]
    assert [item["path"] for item in data["left_out"]] == [str(tmp_path / "notes.txt")]
    assert {scan["description"] for scan in data["scans"]} == {"Chest\x1b[31m", "t1"}
    code, out, err = medrecon("scans", tmp_path, "--names-from-source")
    assert (code, err) == (0, "")
    assert "20x24x6" in out
    assert "notes.txt" in out
    assert "Chest?[31m" in out


def test_scans_tells_no_name_unasked(medrecon: Run, tmp_path: Path, make_ct: Make, make_nifti: Make) -> None:
    make_ct(tmp_path / "Doe" / "a", description="Doe Jane")
    make_nifti(tmp_path / "Doe" / "Doe.nii.gz")
    (tmp_path / "Doe" / "Doe.txt").write_text("hello")
    _, out, _ = medrecon("scans", tmp_path / "Doe", "--json")
    assert "Doe" not in out
    data = json.loads(out)
    assert data["left_out"] == [{"files": 1, "reason": "no DICOM, NIfTI, NRRD or MHA file"}]
    assert all(scan["label"].endswith(scan["key"]) for scan in data["scans"])
    assert "Doe" not in medrecon("scans", tmp_path / "Doe")[1]


def test_scans_where_there_is_nothing(medrecon: Run, tmp_path: Path) -> None:
    code, out, err = medrecon("scans", tmp_path / "nowhere")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1


def test_zip_files_are_read(medrecon: Run, tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct")
    study = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path, "ct")
    code, out, err = medrecon("scans", study, "--json", "--names-from-source")
    assert (code, err) == (0, "")
    (scan,) = json.loads(out)["scans"]
    assert (scan["modality"], scan["files"]) == ("CT", 6)
    assert not Path(scan["path"]).exists(), "what was unpacked is gone"
    code, out, err = medrecon("compare", study, tmp_path / "ct", "--json", "--names-from-source")
    assert (code, err) == (0, "")
    assert json.loads(out)["identical"] is True
    (tmp_path / "ct" / "broken.nii").write_bytes(b"nothing of the kind" * 40)
    study = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path, "ct")
    code, out, err = medrecon("scans", study, "--volume", "7")
    assert code != 0
    assert study in err, "the zip file is named, not where it was unpacked"
    assert "medrecon-part" not in err
