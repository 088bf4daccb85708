"""Each class of broken or ambiguous DICOM series is refused, by name and with a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medrecon.io import ScanError, find_one

from .series_edits import TURNED, edit, every, file, one

Make = Callable[..., np.ndarray]


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


def cut_last_header(folder: Path) -> None:
    os.truncate(file(folder, 4), 700)


def link_last_to_nowhere(folder: Path) -> None:
    file(folder, 4).unlink()
    file(folder, 4).symlink_to(folder / "nowhere")


REFUSED = {
    "cut header of the last": (cut_last_header, r"047\.dcm: a slice may be lost: broken DICOM header"),
    "last is a link to nowhere": (link_last_to_nowhere, r"047\.dcm: a slice may be lost: a link to nowhere"),
    "gap": (lose_a_slice, r"1 slice\(s\) missing after slice 2 of 4 \(037\.dcm\): 5\.000 mm .*2\.500 mm"),
    "empty file": (lose_a_slice_and_keep_its_empty_file, r"missing after slice 2.*074\.dcm is empty"),
    "link to nowhere": (lose_a_slice_and_keep_its_link, r"missing after slice 2.*074\.dcm a link to nowhere"),
    "uneven": (move_a_slice, r"uneven slice spacing after slice 4 of 5 \(010\.dcm\): 3\.500 mm"),
    "same position": (repeat_a_position, r"different slices at the same position: 010\.dcm and 074\.dcm"),
    "same uid": (repeat_a_uid, r"037\.dcm and 010\.dcm|010\.dcm and 037\.dcm"),
    "gantry tilt": (shear, r"gantry tilt\): 0\.600 mm .*--resample"),
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
    "other spacing": (
        one(PixelSpacing=[0.76, 0.5]),
        r"differ in spacing: 010\.dcm has '0\.76.0\.5', 4 others have '0\.75.0\.5'; .*--volume 0",
    ),
    "other frame": (one(FrameOfReferenceUID="1.2.3"), r"FrameOfReferenceUID: 010\.dcm has another one"),
    "other patient": (one(PatientID="OTHER"), r"PatientID: 010\.dcm has another one"),
    "other study": (one(StudyInstanceUID="1.2.3"), r"StudyInstanceUID"),
    "no rescale in one": (
        one(RescaleSlope=None, RescaleIntercept=None),
        r"Rescale Slope/Intercept: 010\.dcm has 'missing'",
    ),
    "no rescale": (every(RescaleSlope=None, RescaleIntercept=None), r"no Hounsfield units"),
    "zero slope": (one(RescaleSlope=0), r"010\.dcm: Rescale Slope 0"),
    "tiny slope": (one(RescaleSlope="1e-300"), r"010\.dcm: Rescale Slope 1e-300"),
    "slope that the intercept swallows": (
        every(RescaleSlope="1e-5", RescaleIntercept="-1024"),
        r"\.dcm: Rescale Slope 1e-05, Rescale Intercept -1024.0: values would be lost",
    ),
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
    "rows that the pixels contradict": (every(Rows=3), r"Pixel Data has 336 bytes, 14 x 3 x 1 need 84"),
    "short pixels": (short_pixels, r"010\.dcm: Pixel Data has 40 bytes, 14 x 12 x 1 need 336"),
    "no pixels": (one(PixelData=None), r"010\.dcm broken DICOM header: it ends without pixel data"),
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
