"""De-identification: nothing of the patient in any byte, references that resolve, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from medrecon.errors import MedreconError, ModelError, OutputError, UsageError
from medrecon.io import find_one, read_scan, write_volume
from medrecon.io.derivation import identity_derivation
from medrecon.io.dicom.deidentify.files import deidentify
from medrecon.io.dicom.deidentify.header import Deidentifier
from medrecon.io.dicom.deidentify.key import Key, moved
from medrecon.io.dicom.deidentify.profile import Profile
from medrecon.io.scan import ScanError

from ..programs import entity_faults, errors

Make = Callable[..., np.ndarray]
ALL = ("dates", "device", "patient")
KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)


def without(source: Path, output: Path, key: Key = KEY, keep: tuple[str, ...] = ("dates",)) -> list[Path]:
    deidentify(source, output, Deidentifier(key, Profile.of(keep)))
    return sorted(output.rglob("*.dcm"))


def mark(dataset: Dataset, texts: dict[str, str], *, deep: bool = True) -> None:
    """Put a text into each attribute of the dictionary whose value representation can hold it."""
    for keyword, tag in keyword_dict.items():
        vr = dictionary_VR(tag)
        group = tag >> 16
        if vr in texts and group not in (0x0000, 0x0002, 0x0004, 0x0006) and keyword not in dataset:
            dataset.add(DataElement(tag, vr, texts[vr]))
    block = dataset.private_block(0x0029, "DOE JANE", create=True)
    block.add_new(0x10, "LO", texts["LO"])
    block.add_new(0x11, "OB", texts["LO"].encode())
    dataset.add(DataElement(Tag(0x6000, 0x3000), "OW", (texts["LO"] + " ").encode()[:8]))
    dataset.add(DataElement(Tag(0x0008, 0x9999), "UN", texts["LO"].encode()))
    if deep:
        for keyword in (
            "ReferencedImageSequence",
            "ContributingEquipmentSequence",
            "RequestAttributesSequence",
        ):
            item = Dataset()
            mark(item, texts, deep=False)
            dataset.add(DataElement(tag_for_keyword(keyword), "SQ", Sequence([item])))


TEXTS = dict.fromkeys(("LO", "LT", "SH", "ST", "UC", "UT", "AE"), "Xyzzy")
TEXTS |= {"PN": "Xyzzy^Quux", "CS": "XYZZY", "AS": "077Y", "UR": "http://xyzzy.example"}
TEXTS |= {"DA": "20240102", "DT": "20240102101112", "UI": "1.2.3.4711"}


@pytest.fixture
def marked(tmp_path: Path, make_ct: Make) -> Path:
    """A series with a mark in every text, date and UID that DICOM knows."""
    make_ct(tmp_path / "marked", (16, 16, 1), patient="Xyzzy^Quux")
    for path in (tmp_path / "marked").iterdir():
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        mark(dataset, TEXTS)
        dataset.BurnedInAnnotation = "NO"
        for keyword in ("Units", "Laterality"):
            dataset.pop(tag_for_keyword(keyword), None)
        dataset.preamble = b"Xyzzy" + bytes(123)
        dataset.file_meta.SourceApplicationEntityTitle = "Xyzzy"
        dataset.save_as(path)
    return tmp_path / "marked"


@pytest.mark.parametrize("keep", [(), ("dates",), ALL])
def test_no_name_id_or_date_is_left_in_any_byte(keep: tuple[str, ...], marked: Path, tmp_path: Path) -> None:
    made = without(marked, tmp_path / "out", keep=keep)
    assert len(made) == 1
    source = dcmread(next(marked.iterdir()))
    uids = [str(element.value) for element in source.iterall() if element.VR == "UI"]
    secret = [b"xyzzy", b"quux", b"4711", b"20240102", b"19500101", b"doe jane"]
    secret += [uid.encode() for uid in uids if not uid.startswith("1.2.840.10008.") and len(uid) > 5]
    for path in made:
        data = path.read_bytes().lower()
        assert not [word for word in secret if word in data]
        assert not [word for word in secret if word in str(path.relative_to(tmp_path)).encode().lower()]


def test_images_stay_as_they_are(make_ct: Make, tmp_path: Path) -> None:
    hu = make_ct(tmp_path / "ct")
    without(tmp_path / "ct", tmp_path / "out")
    before, after = find_one(tmp_path / "ct"), find_one(tmp_path / "out")
    assert np.array_equal(read_scan(after), hu)
    assert np.array_equal(after.affine, before.affine)
    assert (after.modality, after.units) == ("CT", "HU")


def derive(source: Path, output: Path) -> None:
    scan = find_one(source)
    write_volume(read_scan(scan), scan, output, derivation=identity_derivation())


def references(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.keyword in ("ReferencedSOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            yield str(element.value)


@pytest.mark.parametrize("first", ["derive", "deidentify"])
def test_source_and_derived_still_refer_to_each_other(first: str, make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    source = without(tmp_path / "ct", tmp_path / "a")
    if first == "derive":
        derive(tmp_path / "ct", tmp_path / "derived")
        derived = without(tmp_path / "derived", tmp_path / "b")
    else:
        derive(tmp_path / "a", tmp_path / "b")
        derived = sorted((tmp_path / "b").rglob("*.dcm"))
    headers = [dcmread(path, stop_before_pixels=True) for path in source]
    there = {str(h[keyword].value) for h in headers for keyword in ("SOPInstanceUID", "SeriesInstanceUID")}
    there.add(str(headers[0].StudyInstanceUID))
    for path in derived:
        header = dcmread(path, stop_before_pixels=True)
        assert set(references(header)) - {str(header.SeriesInstanceUID)} <= there
        assert header.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
        assert header.PatientID == headers[0].PatientID
        assert header.StudyDate == headers[0].StudyDate


def test_one_key_agrees_with_itself_and_two_do_not(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    one = without(tmp_path / "ct", tmp_path / "one")
    again = without(tmp_path / "ct", tmp_path / "again")
    other = without(tmp_path / "ct", tmp_path / "other", OTHER)
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in again]
    assert [p.relative_to(tmp_path / "one") for p in one] == [
        p.relative_to(tmp_path / "again") for p in again
    ]
    a, b = dcmread(one[0]), dcmread(other[0])
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert a[keyword].value != b[keyword].value
    assert not {dcmread(p).SOPInstanceUID for p in one} & {dcmread(p).SOPInstanceUID for p in other}


def test_dates_move_together_for_a_patient_and_apart_for_two() -> None:
    days = [KEY.days(f"patient {number}") for number in range(200)]
    assert all(1 <= day <= 3650 for day in days)
    assert len(set(days)) > 150
    assert moved("20240301", 1) == "20240229"
    assert moved("20240301101112.5+0100", 1) == "20240229101112.5+0100"
    assert moved("", 1) == moved("2024", 1) == moved("20241301", 1) == moved("00010101", 9) == ""
    assert moved("20240301 Doe", 1) == ""


def test_options(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():
        dataset = dcmread(path)
        dataset.PatientAge, dataset.PatientWeight, dataset.PatientSize = "093Y", "71", "1.7"
        dataset.DeviceSerialNumber, dataset.ManufacturerModelName = "S123", "Scanner 5"
        dataset.GPSLatitude = "52.5"
        dataset.StationName = "JANE"  # names the patient
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", 1000)
        dataset.save_as(path)
    plain = dcmread(without(tmp_path / "ct", tmp_path / "plain", keep=())[0])
    full = dcmread(without(tmp_path / "ct", tmp_path / "full", keep=ALL)[0])
    assert (plain.PatientSex, plain.StudyDate, plain.PatientBirthDate) == ("", "", "")
    assert "PatientWeight" not in plain
    assert "DeviceSerialNumber" not in plain
    assert (full.PatientSex, full.PatientAge, full.PatientWeight) == ("O", "090Y", 71)
    assert (full.DeviceSerialNumber, full.ManufacturerModelName) == ("S123", "Scanner 5")
    assert "StationName" not in full
    assert "GPSLatitude" not in full
    assert full[0x0043, 0x1039].value == plain[0x0043, 0x1039].value == 1000
    codes = {item.CodeValue for item in full.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113107", "113108", "113109", "113111"}
    assert full.LongitudinalTemporalInformationModified == "MODIFIED"
    assert plain.LongitudinalTemporalInformationModified == "REMOVED"
    with pytest.raises(UsageError, match="nothing that can be kept"):
        Profile.of(["names"])


def test_what_stays_in_the_pixels_is_said(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    path = next((tmp_path / "ct").iterdir())
    dataset = dcmread(path)
    dataset.BurnedInAnnotation, dataset.BodyPartExamined = "YES", "HEAD"
    dataset.save_as(path)
    made = deidentify(tmp_path / "ct", tmp_path / "out", Deidentifier(KEY, Profile()))
    assert len(made.notes) == 2
    assert "burned-in" in " ".join(made.notes)
    assert "face" in " ".join(made.notes)


@pytest.mark.parametrize("fault", ["cut", "sequence", "pixels"])
def test_a_series_is_never_half_deidentified(fault: str, make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    path = sorted((tmp_path / "ct").iterdir())[-1]
    data = path.read_bytes()
    broken = {
        "cut": data[:300],
        "sequence": data.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00SQ"),
        "pixels": data[:-100],
    }
    path.write_bytes(broken[fault])
    with pytest.raises(MedreconError):
        without(tmp_path / "ct", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_what_is_no_image_does_not_appear(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    path = next((tmp_path / "ct").iterdir())
    report = dcmread(path)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(path)
    (tmp_path / "ct" / "Doe.txt").write_text("Doe")
    made = deidentify(tmp_path / "ct", tmp_path / "out", Deidentifier(KEY, Profile()))
    assert (made.files, len(made.left_out)) == (5, 2)
    with pytest.raises(ScanError, match="no CT, MR or PET image"):
        deidentify(path, tmp_path / "none", Deidentifier(KEY, Profile()))
    with pytest.raises(OutputError, match="exists"):
        without(tmp_path / "ct", tmp_path / "out")


def test_overwrite_replaces_what_was_made_before_and_nothing_else(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    again = Deidentifier(OTHER, Profile())
    without(tmp_path / "ct", tmp_path / "out")
    deidentify(tmp_path / "ct", tmp_path / "out", again, overwrite=True)
    made = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {dcmread(path).StudyInstanceUID for path in made} == {OTHER.uid(study_of(tmp_path / "ct"))}
    (made[0].parent / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="did not write"):
        deidentify(tmp_path / "ct", tmp_path / "out", again, overwrite=True)


def study_of(folder: Path) -> str:
    return str(dcmread(next(folder.rglob("*.dcm"))).StudyInstanceUID)


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ModelError, match="head -c 32"):
        Key.read(path)
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ModelError, match="16 to"):
        Key.read(path)
    path.write_bytes(b"k" * 32)
    assert Key.read(path).uid("1.2") == KEY.uid("1.2")
    path.chmod(0o644)
    with pytest.raises(ModelError, match="chmod 600"):
        Key.read(path)


def test_uids_are_legal_and_those_of_the_standard_stay() -> None:
    assert KEY.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    made = {KEY.uid(f"1.2.{number}") for number in range(100)}
    assert len(made) == 100
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in made)
    assert KEY.uid("") == ""


@pytest.mark.parametrize("keep", [(), ALL])
def test_conformance_is_no_worse(keep: tuple[str, ...], make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    derive(tmp_path / "ct", tmp_path / "derived")
    for name in ("ct", "derived"):
        before = errors([next((tmp_path / name).rglob("*.dcm"))])
        made = without(tmp_path / name, tmp_path / f"{name}-out", keep=keep)
        assert errors(made[:1]) <= before
    files = [*(tmp_path / "ct-out").rglob("*.dcm"), *(tmp_path / "derived-out").rglob("*.dcm")]
    assert entity_faults(files) == set()


def test_a_number_that_is_the_patients_id_goes(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    dataset = dcmread(next((tmp_path / "ct").iterdir()))
    dataset.PatientID, dataset.SeriesNumber, dataset.AcquisitionNumber = "123456", 123456, 7
    made = Deidentifier(KEY, Profile()).map(dataset)
    assert "SeriesNumber" in made, "type 2"
    assert (made.SeriesNumber, int(made.AcquisitionNumber)) == ("", 7)


def test_a_file_without_a_patient_is_mapped_too(make_ct: Make, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    dataset = dcmread(next((tmp_path / "ct").iterdir()))
    del dataset.PatientID
    dataset.PatientName = ""
    made = Deidentifier(KEY, Profile(("dates",))).map(dataset)
    assert (made.PatientID, str(made.PatientName)) == ("", "")
    stream = BytesIO()
    made.save_as(stream)
    assert dcmread(BytesIO(stream.getvalue())).PixelData == dataset.PixelData


def test_frames_and_defined_terms_stay(make_ct: Make, tmp_path: Path) -> None:
    """Groups of frames (5200) are no curves (50xx), and a patient may be called as an Image Type is."""
    make_ct(tmp_path / "ct", patient="Original^Hfs")
    dataset = dcmread(next((tmp_path / "ct").iterdir()))
    position, frame = Dataset(), Dataset()
    position.ImagePositionPatient = [1, 2, 3]
    frame.PlanePositionSequence = Sequence([position])
    frame.FrameContentSequence = Sequence([Dataset()])
    frame.FrameContentSequence[0].FrameAcquisitionDateTime = "20240102101112"
    dataset.PerFrameFunctionalGroupsSequence = Sequence([frame])
    dataset.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    dataset.ContentDate, dataset.DeviceSerialNumber = "20240102", "SN 17"
    dataset.AcquisitionContextSequence = Sequence([Dataset()])
    dataset.AcquisitionContextSequence[0].TextValue = "Hfs"
    dataset.add_new(0x50000030, "LO", "Hfs")
    dataset.ImageType, dataset.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
    dataset.BodyPartExamined = "ORIGINAL HFS"
    made = Deidentifier(KEY, Profile()).map(dataset)
    (kept,) = made.PerFrameFunctionalGroupsSequence
    assert kept.PlanePositionSequence[0].ImagePositionPatient == [1, 2, 3]
    assert "2024" not in str(kept)
    assert list(made.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert made.PatientPosition == "HFS"
    assert "BodyPartExamined" not in made
    assert len(made.AcquisitionContextSequence) == 0
    assert (made.ContentDate, made.DeviceSerialNumber) == ("19000101", "REMOVED"), "type 1"
    assert 0x50000030 not in made
