"""Which series are scans, which are refused and why: each class of fault made here, one a test."""

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

Make = Callable[..., np.ndarray]


def file(folder: Path, index: int) -> Path:
    """The file of a slice, by its place in the stack (names are in another order)."""
    return folder / f"{(index * 37) % 101:03d}.dcm"


def edit(path: Path, **values: object) -> None:
    """Change attributes of one file; None removes one."""
    ds = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path)


def lose_a_slice(folder: Path) -> None:
    file(folder, 2).unlink()


def lose_a_slice_and_keep_its_empty_file(folder: Path) -> None:
    file(folder, 2).write_bytes(b"")


def lose_a_slice_and_keep_its_link(folder: Path) -> None:
    file(folder, 2).unlink()
    file(folder, 2).symlink_to(folder / "nowhere")


def move_a_slice(folder: Path) -> None:
    edit(file(folder, 4), ImagePositionPatient=[-31.5, 17.25, -80.125 + 4 * 2.5 + 1])


def repeat_a_position(folder: Path) -> None:
    edit(file(folder, 3), ImagePositionPatient=[-31.5, 17.25, -80.125 + 2 * 2.5])


def repeat_a_uid(folder: Path) -> None:
    uid = pydicom.dcmread(file(folder, 1)).SOPInstanceUID
    ds = pydicom.dcmread(file(folder, 3))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.save_as(file(folder, 3))


def shear(folder: Path) -> None:
    for k in range(5):
        edit(file(folder, k), ImagePositionPatient=[-31.5, 17.25 + 0.6 * k, -80.125 + 2.5 * k])


def shift_one_sideways(folder: Path) -> None:
    edit(file(folder, 2), ImagePositionPatient=[-31.5, 19.25, -80.125 + 5])


def all_in_one_place(folder: Path) -> None:
    for k in range(5):
        edit(file(folder, k), ImagePositionPatient=[0, 0, 0])


def cut_pixels(folder: Path) -> None:
    os.truncate(file(folder, 3), file(folder, 3).stat().st_size - 100)


def cut_header(folder: Path) -> None:
    os.truncate(file(folder, 3), 700)


def short_pixels(folder: Path) -> None:
    edit(file(folder, 3), PixelData=b"\0" * 40)


def raw(name: str, value: bytes) -> Callable[[Path], None]:
    """Put bytes into an attribute of one slice that pydicom would not write."""

    def change(folder: Path) -> None:
        edit(file(folder, 3), **{name: "1234567890123456"})
        data = file(folder, 3).read_bytes()
        file(folder, 3).write_bytes(data.replace(b"1234567890123456", value.ljust(16)))

    return change


def one(**values: object) -> Callable[[Path], None]:
    """Change one slice in the middle."""
    return lambda folder: edit(file(folder, 3), **values)


def every(**values: object) -> Callable[[Path], None]:
    """Change all slices."""
    return lambda folder: [edit(path, **values) for path in sorted(folder.iterdir())] and None


TURNED = [0.0, 1, 0, 0, 0, -1]
REFUSED = {
    "gap": (lose_a_slice, r"1 slice\(s\) missing after slice 2 of 4 \(037\.dcm\): 5\.000 mm .*2\.500 mm"),
    "empty file": (lose_a_slice_and_keep_its_empty_file, r"missing after slice 2.*074\.dcm is empty"),
    "link to nowhere": (lose_a_slice_and_keep_its_link, r"missing after slice 2.*074\.dcm a link to nowhere"),
    "uneven": (move_a_slice, r"uneven slice spacing after slice 4 of 5 \(010\.dcm\): 3\.500 mm"),
    "same position": (repeat_a_position, r"different slices at the same position: 010\.dcm and 074\.dcm"),
    "same uid": (repeat_a_uid, r"037\.dcm and 010\.dcm|010\.dcm and 037\.dcm"),
    "gantry tilt": (shear, r"gantry tilt\): 0\.600 mm .*--resample-tilt"),
    "shifted slice": (shift_one_sideways, r"shifted against each other by up to 2\.00 mm"),
    "one place": (all_in_one_place, r"all 5 images are at one position"),
    "no position": (one(ImagePositionPatient=None), r"010\.dcm: Image Position \(Patient\) is missing"),
    "absurd position": (one(ImagePositionPatient=[1e7, 0, 0]), r"010\.dcm: Image Position .* absurd"),
    "no orientation": (every(ImageOrientationPatient=None), r"Image Orientation \(Patient\) is missing"),
    "long cosines": (every(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), r"no pair of unit vectors"),
    "skew cosines": (every(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]), r"no pair of unit vectors"),
    "zero cosines": (every(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), r"no pair of unit vectors"),
    "turned slice": (one(ImageOrientationPatient=TURNED), r"010\.dcm.*differ in orientation"),
    "no spacing": (every(PixelSpacing=None), r"Pixel Spacing is missing"),
    "zero spacing": (every(PixelSpacing=[0, 0]), r"Pixel Spacing is 0 x 0 mm"),
    "negative spacing": (every(PixelSpacing=[-1, 1]), r"Pixel Spacing is -1 x 1 mm"),
    "absurd spacing": (every(PixelSpacing=[900, 900]), r"no scanner makes"),
    "other spacing": (one(PixelSpacing=[0.76, 0.5]), r"differ in spacing: 0\.75.0\.5 in .*0\.76.0\.5"),
    "other frame": (one(FrameOfReferenceUID="1.2.3"), r"FrameOfReferenceUID: 010\.dcm has '1\.2\.3'"),
    "other patient": (one(PatientID="OTHER"), r"PatientID: 010\.dcm has another one"),
    "other study": (one(StudyInstanceUID="1.2.3"), r"StudyInstanceUID"),
    "no rescale in one": (
        one(RescaleSlope=None, RescaleIntercept=None),
        r"Rescale Slope/Intercept: 010\.dcm has 'missing'",
    ),
    "no rescale": (every(RescaleSlope=None, RescaleIntercept=None), r"no Hounsfield units"),
    "zero slope": (one(RescaleSlope=0), r"010\.dcm: Rescale Slope 0"),
    "text for a slope": (raw("RescaleSlope", b"nan "), r"010\.dcm: RescaleSlope is not a number"),
    "text for a place": (
        raw("ImagePositionPatient", b"12,5\\abc\\1"),
        r"010\.dcm: ImagePosition.*not a number",
    ),
    "no rows": (one(Rows=0), r"010\.dcm: Rows or Columns are missing or zero"),
    "huge rows": (one(Rows=65535, Columns=65535), r"010\.dcm: a matrix of 65535 x 65535 is absurd"),
    "other rows": (one(Rows=6), r"differ in matrix size: 010\.dcm has '14 x 6'"),
    "bits": (one(BitsStored=20), r"010\.dcm: Bits Allocated 16, Bits Stored 20"),
    "colour": (one(SamplesPerPixel=3, PhotometricInterpretation="RGB"), r"010\.dcm: colour image \(RGB"),
    "no sign": (one(PixelRepresentation=None), r"Pixel Representation is missing"),
    "frames": (one(NumberOfFrames=2147483647), r"010\.dcm: Pixel Data has 336 bytes"),
    "cut pixels": (cut_pixels, r"010\.dcm: cut short: 236 bytes of pixel data are there, 336 are announced"),
    "cut header": (cut_header, r"010\.dcm.*broken DICOM header.*(the file ends|claims \d+ bytes|it was cut)"),
    "short pixels": (short_pixels, r"010\.dcm: Pixel Data has 40 bytes, 14 x 12 x 1 need 336"),
    "no pixels": (one(PixelData=None), r"010\.dcm: .*pixel data|010\.dcm: Pixel Data has 0 bytes"),
    "mosaic": (every(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), r"Siemens mosaic"),
    "frames without place": (one(NumberOfFrames=2, PixelData=b"\0" * 672), r"multi-frame image \(2 frames\)"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault: str, tmp_path: Path, make_series: Make) -> None:
    change, message = REFUSED[fault]
    make_series(tmp_path / "ct")
    assert find_one(tmp_path / "ct").shape == (14, 12, 5)
    change(tmp_path / "ct")
    with pytest.raises(ScanError, match=message) as caught:
        find_one(tmp_path / "ct")
    assert str(tmp_path) in str(caught.value), "the message must name the place"
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert "Doe" not in str(caught.value)
    assert "4711" not in str(caught.value)


def add_text(folder: Path) -> None:
    (folder / "Thumbs.db").write_bytes(b"x" * 2000)
    (folder / "notes.txt").write_text("a note")


def add_empty(folder: Path) -> None:
    (folder / "999.dcm").write_bytes(b"")


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
    "empty file": (add_empty, r"1 file\(s\) left out: is empty"),
    "report": (add_report, r"left out: not a CT, MR or PET image: Basic Text SR"),
    "localizer": (add_localizer, r"left out: localizer"),
    "copy": (add_copy, r"1 file\(s\) left out: a copy of a slice"),
    "loop": (add_loop, r"left out: a link to a folder that is read anyway"),
    "pipe": (add_pipe, r"left out: a pipe"),
    "program": (put_program, r"preamble holds a program's header"),
    "no preamble": (drop_preamble, r"no preamble"),
    "long pixels": (long_pixels, r"037\.dcm: 40 bytes too many"),
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
        assert scan.series_uid in str(caught.value)
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
