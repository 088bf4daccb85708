"""A classic series from an enhanced source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medrecon.io import DicomSeriesWriter, find_one, read_scan

from ..programs import errors, program

SHAPE = (10, 8, 6)


def item(**attributes: object) -> Sequence:
    data = Dataset()
    for name, value in attributes.items():
        setattr(data, name, value)
    return Sequence([data])


@pytest.fixture
def enhanced(tmp_path: Path, make_series) -> np.ndarray:
    """An enhanced MR of two interleaved volumes in one file; returns their values (X, Y, Z, volume)."""
    make_series(tmp_path / "classic", "MR", intercept=0)
    image = pydicom.dcmread(sorted((tmp_path / "classic").iterdir())[0])
    for keyword in [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "SliceLocation",
    ]:
        del image[keyword]
    for keyword in [
        "EchoTime",
        "ScanningSequence",
        "SequenceVariant",
        "ScanOptions",
        "RepetitionTime",
        "WindowCenter",
        "WindowWidth",
    ]:
        del image[keyword]
    stored = np.random.default_rng(0).integers(0, 4095, (*SHAPE, 2))
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.75, 0.5], SliceThickness="3")
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelValueTransformationSequence = item(RescaleSlope="2", RescaleIntercept="-7", RescaleType="US")
    shared.MRTimingAndRelatedParametersSequence = item(
        RepetitionTime="500", FlipAngle="90", EchoTrainLength="1"
    )
    shared.MRFOVGeometrySequence = item(InPlanePhaseEncodingDirection="COLUMN")
    shared.add_new(0x00510010, "LO", "SECRET")
    frames, pixels = [], []
    for z in reversed(range(SHAPE[2])):
        for echo in range(2):
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=[-10, 5, 3.0 * z])
            frame.MREchoSequence = item(EffectiveEchoTime=10.0 + 20 * echo)
            frame.FrameContentSequence = item(
                DimensionIndexValues=[z + 1, echo + 1], StackID="1", InStackPositionNumber=z + 1
            )
            frame.FrameVOILUTSequence = item(WindowCenter="2000", WindowWidth="4000")
            frame.MRImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])
            frames.append(frame)
            pixels.append(stored[:, :, z, echo].T.astype("<u2"))
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    image.SOPClassUID, image.EchoPulseSequence = EnhancedMRImageStorage, "SPIN"
    image.SOPInstanceUID, image.NumberOfFrames = generate_uid(entropy_srcs=["enhanced"]), len(frames)
    image.Columns, image.Rows = SHAPE[:2]
    image.PixelData = b"".join(part.tobytes() for part in pixels)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    return stored * 2 - 7


@pytest.mark.parametrize("echo", [0, 1])
def test_one_volume_becomes_single_frame_images(tmp_path, enhanced, echo):
    source = find_one(tmp_path / "enhanced.dcm", volume=echo)
    values = read_scan(source)
    assert np.array_equal(values, enhanced[..., echo])
    writer = DicomSeriesWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_scan(source)
    written = writer.write(tmp_path / "out")
    back = find_one(tmp_path / "out")
    assert np.array_equal(read_scan(back), values)
    assert np.abs(back.affine - source.affine).max() < 1e-9
    assert any("6 single-frame images" in line for line in written.warnings)
    images = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    first = images[0]
    assert first.SOPClassUID == MRImageStorage
    assert (float(first.EchoTime), float(first.RepetitionTime)) == (10 + 20 * echo, 500)
    assert (first.ScanningSequence, first.InPlanePhaseEncodingDirection) == ("SE", "COL")
    assert first.ImageType == ["DERIVED", "SECONDARY", "M", "NONE"]
    assert (float(first.RescaleSlope), float(first.RescaleIntercept)) == (2, -7)
    assert (first.WindowCenter, first.SliceThickness) == (2000, 3)
    assert "NumberOfFrames" not in first
    assert "PerFrameFunctionalGroupsSequence" not in first
    assert "enhanced" in first.DerivationDescription
    numbers = [int(image.SourceImageSequence[0].ReferencedFrameNumber) for image in images]
    assert numbers == [11 + echo, 9 + echo, 7 + echo, 5 + echo, 3 + echo, 1 + echo]
    assert not any(b"SECRET" in file.read_bytes() for file in (tmp_path / "out").iterdir())
    if program("dciodvfy"):
        assert errors([tmp_path / "out" / "IM00001.dcm"]) == set()


def test_two_volumes_make_two_series(tmp_path, enhanced):
    uids = set()
    for echo in range(2):
        source = find_one(tmp_path / "enhanced.dcm", volume=echo)
        writer = DicomSeriesWriter()
        writer.set_data_array(read_scan(source), channel_dim=None)
        writer.set_scan(source)
        writer.write(tmp_path / f"out{echo}")
        image = pydicom.dcmread(tmp_path / f"out{echo}" / "IM00001.dcm")
        uids |= {image.SeriesInstanceUID, image.SOPInstanceUID}
    assert len(uids) == 4
