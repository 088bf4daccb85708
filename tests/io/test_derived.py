"""The derived series against its source: kept, new, changed, added, dropped. Read back from the files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medrecon.io import Derivation, DicomSeriesWriter, find_one, read_scan

WEIGHTS = "ab" * 32
LEVEL3 = Derivation("volume_autoencoder", "0.1.0", WEIGHTS, "level3", lossy=True, values_per_voxel=1 / 16)
INPUT = Derivation("volume_autoencoder", "0.1.0", WEIGHTS, "input", lossy=False)
KEPT = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientPosition",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SliceLocation",
    "Rows",
    "Columns",
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "KVP",
    "ConvolutionKernel",
    "BodyPartExamined",
    "SpecificCharacterSet",
    "WindowCenter",
    "WindowWidth",
    "BurnedInAnnotation",
    "Manufacturer",
    "InstitutionName",
    "Modality",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "BitsStored",
    "PixelRepresentation",
    "TimezoneOffsetFromUTC",
]
NEW = [
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "ContentDate",
    "ContentTime",
    "InstanceNumber",
]
DROPPED = [
    "InstanceCreatorUID",
    "RequestAttributesSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelPaddingValue",
]


def derive(scan, path: Path, derivation: Derivation = LEVEL3, volume: np.ndarray | None = None, **options):
    writer = DicomSeriesWriter(derivation, **options)
    writer.set_data_array(read_scan(scan) if volume is None else volume, channel_dim=None)
    writer.set_scan(scan)
    return writer.write(path)


def images(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


@pytest.fixture
def ct(tmp_path, make_series):
    make_series(tmp_path / "ct")
    return find_one(tmp_path / "ct")


@pytest.fixture
def pairs(ct, tmp_path):
    """Source and derived image of each slice."""
    derive(ct, tmp_path / "out")
    return list(zip([pydicom.dcmread(file) for file in ct.files], images(tmp_path / "out"), strict=True))


def test_kept_attributes_are_kept_byte_for_byte(pairs, tmp_path):
    for source, derived in pairs:
        for keyword in KEPT:
            assert keyword in source, keyword
            raw, copy = source.get_item(keyword), derived.get_item(keyword)
            assert raw.value == copy.value, keyword


def test_new_attributes_differ(pairs):
    for index, (source, derived) in enumerate(pairs):
        for keyword in NEW:
            if keyword != "InstanceNumber":
                assert source[keyword].value != derived[keyword].value, keyword
        assert derived.InstanceNumber == index + 1
        assert derived.file_meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
        assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert derived.InstanceCreationDate == derived.ContentDate
    first = pairs[0][1]
    assert first.SeriesNumber == 701
    assert first.SeriesDescription == "medrecon level3: Thorax fur 1,5 mm"
    assert first.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert len({derived.SeriesInstanceUID for _, derived in pairs}) == 1
    assert len({derived.SOPInstanceUID for _, derived in pairs}) == len(pairs)


def test_dropped_attributes_are_gone_also_in_sequences(pairs, ct):
    for _, derived in pairs:
        assert not [keyword for keyword in DROPPED if keyword in derived]
        assert not [element for element in derived.iterall() if element.tag.is_private]
        assert not [element for element in derived if 0x5000 <= element.tag.group <= 0x60FF]
        assert derived.AnatomicRegionSequence[0].CodeMeaning == "Chest"
        assert derived.preamble == b"\0" * 128
    for file in (ct.files[0].parent.parent / "out").iterdir():
        assert b"SECRET" not in file.read_bytes()
        assert b"hidden" not in file.read_bytes()


def test_references_lead_to_the_source(pairs):
    for source, derived in pairs:
        item = derived.SourceImageSequence[0]
        assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert item.ReferencedSOPClassUID == CTImageStorage
        assert item.SpatialLocationsPreserved == "YES"
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        series = derived.ReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == source.SeriesInstanceUID
        assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_provenance_names_model_weights_layers_and_version(pairs):
    derived = pairs[0][1]
    text = derived.DerivationDescription
    for fact in ("level3", "volume_autoencoder", WEIGHTS, "0.1.0", "0.0625 values"):
        assert fact in text
    assert [c.CodeValue for c in derived.DerivationCodeSequence] == ["FEATURE_RECON", "113040"]
    equipment = derived.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("medrecon", "volume_autoencoder")
    assert WEIGHTS in equipment.ContributionDescription
    assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == ("01", 16)
    assert "SyntheticData" not in derived


def test_the_identity_control_is_not_called_lossy(ct, tmp_path):
    derive(ct, tmp_path / "out", INPUT, synthetic="NO")
    derived = images(tmp_path / "out")[0]
    assert "LossyImageCompression" not in derived
    assert [c.CodeValue for c in derived.DerivationCodeSequence] == ["IDENTITY"]
    assert derived.SyntheticData == "NO"


def test_what_was_lost_before_stays_lost(tmp_path, make_series):
    def lossy(image, index):
        image.LossyImageCompression, image.LossyImageCompressionRatio = "01", "8.5"
        image.LossyImageCompressionMethod = "ISO_10918_1"
        image.DerivationDescription = "JPEG"
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113040", "DCM", "Lossy Compression"
        image.DerivationCodeSequence = Sequence([item])
        equipment = Dataset()
        equipment.Manufacturer = "Gateway"
        equipment.PurposeOfReferenceCodeSequence = Sequence([item])
        image.ContributingEquipmentSequence = Sequence([equipment])

    make_series(tmp_path / "ct", change=lossy)
    ct = find_one(tmp_path / "ct")
    derive(ct, tmp_path / "a", INPUT)
    derive(ct, tmp_path / "b")
    kept, added = images(tmp_path / "a")[0], images(tmp_path / "b")[0]
    assert (kept.LossyImageCompression, kept.LossyImageCompressionRatio) == ("01", 8.5)
    assert kept.LossyImageCompressionMethod == "ISO_10918_1"
    assert list(added.LossyImageCompressionRatio) == [8.5, 16]
    assert len(added.LossyImageCompressionMethod) == 2
    assert added.DerivationDescription.endswith("Source: JPEG")
    assert len(added.DerivationCodeSequence) == 3
    assert [e.Manufacturer for e in added.ContributingEquipmentSequence] == ["Gateway", "medrecon"]


def test_identifiers_depend_on_source_weights_layers_and_version_alone(ct, tmp_path):
    def uids(name: str, derivation: Derivation, **options):
        derive(ct, tmp_path / name, derivation, **options)
        found = images(tmp_path / name)
        return found[0].SeriesInstanceUID, [image.SOPInstanceUID for image in found]

    first = uids("a", LEVEL3)
    assert uids("b", LEVEL3, series_offset=5) == first
    others = [
        Derivation("volume_autoencoder", "0.1.0", "cd" * 32, "level3", True),
        Derivation("volume_autoencoder", "0.1.0", WEIGHTS, "level2", True),
        Derivation("volume_autoencoder", "0.1.1", WEIGHTS, "level3", True),
    ]
    found = [uids(f"o{number}", other) for number, other in enumerate(others)]
    assert len({series for series, _ in [first, *found]}) == 4
    assert not set(first[1]) & {uid for _, instances in found for uid in instances}
    assert all(re.fullmatch(r"[12](\.(0|[1-9]\d*))+", uid) and len(uid) <= 64 for uid in first[1])


def test_a_fixed_time_makes_the_same_bytes(ct, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    one, other = derive(ct, tmp_path / "a"), derive(ct, tmp_path / "b")
    assert one.sha256 == other.sha256
    assert images(tmp_path / "a")[0].ContentTime == "034320"  # 22:13:20 UTC at +0530


def test_padding_is_named_only_while_padded_voxels_hold_it(tmp_path, make_series):
    def pad(image, index):
        image.add_new("PixelPaddingValue", "US", 4095)

    make_series(tmp_path / "ct", change=pad)
    ct = find_one(tmp_path / "ct")
    values = read_scan(ct)
    derive(ct, tmp_path / "same", volume=values)
    assert images(tmp_path / "same")[0].PixelPaddingValue == 4095
    shifted = values.astype(np.float32)
    shifted[values == 3071] -= 1
    derive(ct, tmp_path / "moved", volume=shifted)
    assert "PixelPaddingValue" not in images(tmp_path / "moved")[0]
    wide = values.astype(np.float32)
    wide[values == values.min()] = -2000
    derive(ct, tmp_path / "wide", volume=wide)
    image = images(tmp_path / "wide")[0]
    assert (image.PixelPaddingValue, image.RescaleIntercept, image.PixelRepresentation) == (3071, 0, 1)


def test_laterality_is_there_where_the_body_part_is_not(tmp_path, make_series):
    def forget(image, index):
        del image.BodyPartExamined, image.AnatomicRegionSequence

    make_series(tmp_path / "ct", change=forget)
    derive(find_one(tmp_path / "ct"), tmp_path / "out")
    assert images(tmp_path / "out")[0].Laterality == ""


def test_a_broken_source_uid_is_not_spread(tmp_path, make_series):
    def spoil(image, index):
        image.SOPInstanceUID = f"0.0.0.0.{index + 1}"

    make_series(tmp_path / "ct", change=spoil)
    written = derive(find_one(tmp_path / "ct"), tmp_path / "out")
    found = images(tmp_path / "out")
    assert "SourceImageSequence" not in found[0]
    assert len({image.SOPInstanceUID for image in found}) == len(found)
    assert any("no references" in line for line in written.warnings)


def test_de_identification_marks_are_kept(tmp_path, make_series):
    def mark(image, index):
        image.PatientIdentityRemoved, image.DeidentificationMethod = "YES", "by hand"
        image.LongitudinalTemporalInformationModified = "MODIFIED"

    make_series(tmp_path / "ct", change=mark)
    derive(find_one(tmp_path / "ct"), tmp_path / "out")
    image = images(tmp_path / "out")[0]
    assert (image.PatientIdentityRemoved, image.DeidentificationMethod) == ("YES", "by hand")
    assert image.LongitudinalTemporalInformationModified == "MODIFIED"
