"""What is found in folders, files and lists; what is left out, and what must be said."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medrecon.io import ScanError, find_one, find_scans, read_scan

from .series_edits import TURNED, edit, every, file

Make = Callable[..., np.ndarray]


def add_text(folder: Path) -> None:
    (folder / "Thumbs.db").write_bytes(b"x" * 2000)
    (folder / "notes.txt").write_text("a note")


def add_report(folder: Path) -> None:
    ds = pydicom.dcmread(file(folder, 0))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    ds.SOPInstanceUID, ds.Modality = generate_uid(), "SR"
    del ds.PixelData
    ds.save_as(folder / "sr.dcm")


def add_localizer(folder: Path) -> None:
    ds = pydicom.dcmread(file(folder, 0))
    ds.ImageType, ds.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], TURNED
    ds.SOPInstanceUID = generate_uid()
    ds.save_as(folder / "scout.dcm")


def add_copy(folder: Path) -> None:
    shutil.copy(file(folder, 2), folder / "copy.dcm")


def add_loop(folder: Path) -> None:
    (folder / "again").symlink_to(folder)


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.dcm")


def put_program(folder: Path) -> None:
    data = file(folder, 1).read_bytes()
    file(folder, 1).write_bytes(b"MZ" + data[2:])


def drop_preamble(folder: Path) -> None:
    data = file(folder, 1).read_bytes()
    file(folder, 1).write_bytes(data[132:])


def long_pixels(folder: Path) -> None:
    ds = pydicom.dcmread(file(folder, 1))
    ds.PixelData = ds.PixelData + b"\1" * 40
    ds.save_as(file(folder, 1))


SAID = {
    "other files": (add_text, r"2 file\(s\) left out: no DICOM"),
    "report": (add_report, r"left out: not a CT, MR or PET image: Basic Text SR"),
    "localizer": (add_localizer, r"left out: localizer"),
    "copy": (add_copy, r"1 file\(s\) left out: a copy of a slice"),
    "loop": (add_loop, r"left out: a link to a folder that is read anyway"),
    "pipe": (add_pipe, r"left out: a pipe"),
    "program": (put_program, r"preamble holds a program's header"),
    "no preamble": (drop_preamble, r"no preamble"),
    "long pixels": (long_pixels, r"file 3 of 5: 40 bytes too many"),
    "announced": (every(ImagesInAcquisition=9), r"Images in Acquisition says 9, 5 slices are there"),
    "monochrome 1": (every(PhotometricInterpretation="MONOCHROME1"), r"MONOCHROME1"),
    "rounding": (
        lambda folder: edit(file(folder, 2), ImagePositionPatient=[-31.5, 17.25, -75.1]),
        r"up to 0\.0\d\d mm off",
    ),
}


@pytest.mark.parametrize("oddity", SAID)
def test_reads_and_says(oddity: str, tmp_path: Path, make_series: Make) -> None:
    change, note = SAID[oddity]
    true = make_series(tmp_path / "ct")
    assert find_one(tmp_path / "ct").notes == ()
    change(tmp_path / "ct")
    scan = find_one(tmp_path / "ct")
    assert np.array_equal(read_scan(scan)[..., :2], true[..., :2])
    assert re.search(note, "\n".join(scan.notes)), scan.notes


def test_links_to_other_folders_are_listed_not_followed(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "in" / "ct")
    make_series(tmp_path / "out", "MR", intercept=0)
    (tmp_path / "in" / "more").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "root").symlink_to("/")
    found = find_scans(tmp_path / "in")
    assert [s.modality for s in found.scans] == ["CT"]
    assert {i.path.name for i in found.left_out if "a link to a folder elsewhere" in i.reason} == {
        "more",
        "root",
    }
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert find_one(tmp_path / "link").modality == "MR"


def test_linked_files_are_read(tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct")
    (tmp_path / "links").mkdir()
    for path in (tmp_path / "ct").iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    assert np.array_equal(read_scan(find_one(tmp_path / "links")), true)


@pytest.mark.parametrize("order", ["reversed", "none", "some"])
def test_instance_numbers_do_not_matter(order: str, tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct", orientation="oblique")
    for k in range(5):
        if order != "some" or k in (1, 3):
            edit(file(tmp_path / "ct", k), InstanceNumber=str(50 - k) if order == "reversed" else None)
    assert np.array_equal(read_scan(find_one(tmp_path / "ct")), true)


def test_everything_found_is_used_left_out_or_refused(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "a" / "ct")
    make_series(tmp_path / "b" / "mr", "MR", intercept=0)
    make_series(tmp_path / "c" / "deep" / "pt", "PT", slopes=[1.0, 2, 3, 4, 5], intercept=0)
    add_text(tmp_path / "a")
    file(tmp_path / "b" / "mr", 2).unlink()
    found = find_scans(tmp_path)
    assert [s.modality for s in found.scans] == ["CT", "PT"]
    assert [s.path for s in found.scans] == [tmp_path / "a" / "ct", tmp_path / "c" / "deep" / "pt"]
    assert len({s.key for s in found.scans}) == 2
    assert [r.path for r in found.refused] == [tmp_path / "b" / "mr"]
    assert sum(len(s.files) for s in found.scans) + len(found.left_out) == 12


def test_two_series_ask_which_one(tmp_path: Path, make_series: Make) -> None:
    one_true = make_series(tmp_path / "a", seed=1)
    make_series(tmp_path / "b", seed=2)
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / f"b{path.name}")
    with pytest.raises(ScanError, match=r"holds 2 scans: .*--series") as caught:
        find_one(tmp_path / "a")
    for scan in find_scans(tmp_path / "a").scans:
        assert scan.key in str(caught.value)
        assert scan.series_uid not in str(caught.value)
        assert find_one(tmp_path / "a", series=scan.key) == scan
        assert find_one(tmp_path / "a", series=scan.series_uid) == scan
    assert any(np.array_equal(read_scan(s), one_true) for s in find_scans(tmp_path / "a").scans)
    with pytest.raises(ScanError, match="no series 'x'"):
        find_one(tmp_path / "a", series="x")


def test_series_by_number_description_and_without_uid(tmp_path: Path, make_series: Make) -> None:
    def nameless(ds: Dataset, index: int) -> None:
        ds.SeriesInstanceUID, ds.SeriesNumber = "", "12"

    make_series(tmp_path / "a")
    make_series(tmp_path / "b", "MR", intercept=0, change=nameless)
    for name, modality in (("7", "CT"), ("12", "MR")):
        scan = find_one(tmp_path, series=name)
        assert scan.modality == modality
        assert find_one(tmp_path, series=scan.key) == scan
    with pytest.raises(ScanError, match="holds 2 scans"):
        find_one(tmp_path, series="Thorax für 1,5 mm")


def test_a_list_of_files_is_a_series(tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct")
    files = sorted((tmp_path / "ct").iterdir())
    assert np.array_equal(read_scan(find_one(files)), true)
    with pytest.raises(ScanError, match="missing after slice"):
        find_one([f for f in files if f != file(tmp_path / "ct", 2)])


def test_one_slice_is_a_scan_by_its_thickness(tmp_path: Path, make_series: Make) -> None:
    true = make_series(tmp_path / "ct")
    scan = find_one(file(tmp_path / "ct", 3))
    assert scan.shape == (14, 12, 1)
    assert scan.spacing == pytest.approx((0.5, 0.75, 2.5))
    assert np.array_equal(read_scan(scan), true[..., 3:4])
    edit(file(tmp_path / "ct", 3), SliceThickness="")
    with pytest.raises(ScanError, match="Slice Thickness"):
        find_one(file(tmp_path / "ct", 3))


def test_a_broken_file_is_blamed_on_its_own_series_only(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "a", seed=1)
    make_series(tmp_path / "b", "MR", intercept=0)
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / f"b{path.name}")
    os.truncate(tmp_path / "a" / "b010.dcm", 1900)
    found = find_scans(tmp_path / "a")
    assert [s.modality for s in found.scans] == ["CT"]
    assert len(found.refused) == 1
    assert "b010.dcm" in str(found.refused[0])


@pytest.mark.parametrize("source", ["missing", "empty", "text", "dicomdir", "pipe", "nothing", "none"])
def test_sources_without_a_scan(source: str, tmp_path: Path) -> None:
    path: object = tmp_path / source
    if source == "empty":
        (tmp_path / source).mkdir()
    elif source == "text":
        (tmp_path / source).write_text("no scan " * 100)
    elif source == "dicomdir":
        path = tmp_path / "DICOMDIR"
        (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    elif source == "pipe":
        os.mkfifo(tmp_path / source)
    elif source == "nothing":
        path = []
    elif source == "none":
        path = None
    with pytest.raises(ScanError) as caught:
        find_scans(path)  # type: ignore[arg-type]
    assert caught.value.remedy


def test_description_in_its_character_set(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct")
    assert find_one(tmp_path / "ct").description == "Thorax für 1,5 mm"


def test_text_outside_the_character_set_is_said(tmp_path: Path, make_series: Make) -> None:
    def wrong(ds: Dataset, index: int) -> None:
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds["PatientName"] = pydicom.DataElement(0x00100010, "UN", b"M\xfcller")

    make_series(tmp_path / "ct", change=wrong)
    notes = "\n".join(find_one(tmp_path / "ct").notes)
    assert "PatientName is not in the declared character set" in notes
    assert "ller" not in notes
