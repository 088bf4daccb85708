"""The record of a run: complete, and silent about the patient."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from medrecon.errors import OutputError
from medrecon.io import (
    Derivation,
    DicomSeriesWriter,
    LeftOut,
    ScanError,
    find_one,
    manifest_path,
    read_scan,
    write_manifest,
)

LEVEL3 = Derivation("tiny", "0.1.0", "ab" * 32, "level3", lossy=True, values_per_voxel=1 / 16)


@pytest.fixture
def run(tmp_path, make_series):
    def reveal(image, index):
        image.SeriesDescription = "Thorax Doe Jane ID-4711"

    folder = tmp_path / "Doe^Jane" / "ct"
    make_series(folder, change=reveal)
    scan = find_one(folder)
    writer = DicomSeriesWriter(LEVEL3)
    writer.set_data_array(read_scan(scan), channel_dim=None)
    writer.set_scan(scan)
    return scan, writer.write(tmp_path / "out")


def record(path: Path, run, **more) -> dict:
    scan, written = run
    folder = scan.path
    write_manifest(
        path,
        scans=[scan],
        outputs=[written],
        left_out=[LeftOut(folder / "report_Doe.pdf", f"{folder}/report_Doe.pdf is no image")],
        refused=[ScanError("truncated", path=folder / "broken.dcm")],
        derivation={"level3": LEVEL3},
        config={"tile": [64, 64]},
        device="cpu",
        seeds={"torch": 0},
        layers=["level3"],
        warnings=[f"{folder}: a warning of {scan.files[0].name}"],
        **more,
    )
    return json.loads(path.read_text(encoding="utf-8"))


def test_everything_that_happened_is_there(run, tmp_path):
    found = record(tmp_path / "manifest.json", run)
    scan, written = run
    (source,) = found["inputs"]
    assert source["sop_instances"] == len(source["sha256"]) == 5
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in scan.files}
    assert set(source["sha256"].values()) == digests
    assert found["refused"][0]["reason"] == "truncated"
    assert found["derivation"]["level3"]["weights_sha256"] == "ab" * 32
    assert (found["device"], found["seeds"], found["layers"]) == ("cpu", {"torch": 0}, ["level3"])
    assert found["versions"]["pydicom"]
    assert found["config"]["tile"] == [64, 64]
    (output,) = found["outputs"]
    for name, digest in output["sha256"].items():
        assert hashlib.sha256((written.path / name).read_bytes()).hexdigest() == digest
    assert (output["result"], output["clipped_voxels"]) == ("level3", 0)


def test_nothing_tells_who_the_patient_is_or_where_the_source_lies(run, tmp_path):
    record(tmp_path / "manifest.json", run)
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8").lower()
    for secret in ("doe", "jane", "4711", "19500101", str(tmp_path).lower(), "1.2.826"):
        assert secret not in text, secret


def test_where_it_goes(tmp_path):
    out = tmp_path / "out"
    assert manifest_path(out, [out]) == tmp_path / "out.manifest.json"
    assert manifest_path(tmp_path / "a.nii.gz", [tmp_path / "a.nii.gz"]) == tmp_path / "a.manifest.json"
    assert manifest_path(out, [out / "level3", out / "level4"]) == out / "manifest.json"
    assert manifest_path(out, [out / "level3.nii.gz"]) == out / "manifest.json"


def test_whole_or_not_at_all(run, tmp_path):
    path = tmp_path / "manifest.json"
    record(path, run)
    with pytest.raises(OutputError, match="exists already"):
        record(path, run, overwrite=False)
    record(path, run)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["Doe^Jane", "manifest.json", "out"]


def test_a_patient_called_like_a_field_does_not_break_it(tmp_path, make_series):
    def name(image, index):
        image.PatientName, image.PatientID = "Seeds^Inputs", "device"

    make_series(tmp_path / "ct", change=name)
    path = write_manifest(tmp_path / "m.json", scans=[find_one(tmp_path / "ct")], device="cpu")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["device"] == "cpu"
    assert len(found["inputs"]) == 1


def test_a_file_name_that_is_no_unicode(tmp_path):
    """Latin-1 names from old archives are taken out of the record, which is UTF-8, like any other."""
    name = Path(os.fsdecode(b"M\xfcller.nii.gz"))
    write_manifest(tmp_path / "m.json", refused=[ScanError(f"{name} is broken", path=tmp_path / name)])
    (refused,) = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["refused"]
    assert refused == {"reason": "file 1 of 1 is broken"}
