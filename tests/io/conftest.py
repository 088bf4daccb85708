"""Series made for the tests of reading and writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    generate_uid,
)

COS, SIN = np.cos(np.deg2rad(23)), np.sin(np.deg2rad(23))
ORIENTATIONS = {
    "axial": (1.0, 0, 0, 0, 1, 0),
    "sagittal": (0, 1.0, 0, 0, 0, -1),
    "oblique": (COS, -SIN, 0, SIN * COS, COS * COS, -SIN),
}
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
SHAPE = (14, 12, 5)


@pytest.fixture
def make_series() -> Callable[..., np.ndarray]:
    """Writes a series with every kind of attribute: `make_series(folder, ...)` -> its values, (X, Y, Z)."""
    return write_series


def write_series(
    folder: Path,
    modality: str = "CT",
    *,
    orientation: str = "axial",
    signed: bool = False,
    bits: int = 12,
    intercept: float = -1024,
    slopes: float | list[float] = 1.0,
    shape: tuple[int, int, int] = SHAPE,
    syntax: str = ExplicitVRLittleEndian,
    seed: int = 0,
    change: Callable[[Dataset, int], Any] | None = None,
) -> np.ndarray:
    """Write a series; `change(data set, index)` edits each image before it is saved."""
    rng = np.random.default_rng(seed)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    stored = rng.integers(low, high, shape, endpoint=True)
    stored[0, 0, :], stored[1, 0, :] = low, high
    scale = np.broadcast_to(np.asarray(slopes, float), (shape[2],))
    row, column = np.array(ORIENTATIONS[orientation]).reshape(2, 3)
    normal = np.cross(row, column)
    folder.mkdir(parents=True)
    for index in range(shape[2]):
        image = _attributes(modality, seed)
        image.SOPInstanceUID = generate_uid(entropy_srcs=[modality, orientation, str(seed), str(index)])
        image.InstanceNumber = str(shape[2] - index)
        image.ImagePositionPatient = [f"{v:.8g}" for v in (-31.5, 17.25, -80.125) + normal * 2.5 * index]
        image.ImageOrientationPatient = [f"{v:.8g}" for v in (*row, *column)]
        image.PixelSpacing, image.SliceThickness, image.SliceLocation = (
            ["0.75", "0.5"],
            "2.5",
            f"{2.5 * index:g}",
        )
        image.Columns, image.Rows = shape[:2]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, bits, bits - 1
        image.PixelRepresentation = int(signed)
        if modality != "MR" or (intercept, slopes) != (0, 1.0):
            image.RescaleIntercept, image.RescaleSlope = f"{intercept:g}", f"{scale[index]:.10g}"
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        image.PixelData = stored[:, :, index].T.astype(f"{order}{'i' if signed else 'u'}2").tobytes()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
        if change is not None:
            change(image, index)
        if syntax == RLELossless:
            image.compress(RLELossless, generate_instance_uid=False)
        image.preamble = b"\0" * 127 + b"x"
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{(index * 37) % 101:03d}.dcm", enforce_file_format=True)
    return stored * scale + intercept


def _attributes(modality: str, seed: int) -> Dataset:
    """What a scanner writes besides geometry and pixels, and what must not be copied."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID = CLASSES[modality]
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240102"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101112"
    image.AccessionNumber, image.Modality, image.Manufacturer = "A1", modality, "Nobody"
    image.ReferringPhysicianName, image.StudyDescription = "Müller^Jörg", "Study"
    image.SeriesDescription = "Thorax für 1,5 mm"
    image.InstitutionName = "Krankenhaus Süd"
    image.PatientName, image.PatientID = "Doe^Jane", "ID-4711"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19500101", "F", "074Y"
    image.BodyPartExamined = "CHEST"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(image, name, generate_uid(entropy_srcs=[name, modality, str(seed)]))
    image.StudyID, image.SeriesNumber, image.AcquisitionNumber = "1", "7", "2"
    image.PositionReferenceIndicator, image.PatientPosition = "", "HFS"
    image.WindowCenter, image.WindowWidth = ["40", "-600"], ["400", "1600"]
    image.BurnedInAnnotation, image.TimezoneOffsetFromUTC = "NO", "+0530"
    image.InstanceCreatorUID = "1.2.3"
    image.SmallestImagePixelValue, image.LargestImagePixelValue = 0, 1
    request = Dataset()
    request.ScheduledProcedureStepID = "S"
    image.RequestAttributesSequence = Sequence([request])
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "816094009", "SCT", "Chest"
    region.add_new(0x00410010, "LO", "SECRET")
    region.add_new(0x00411001, "LO", "hidden in a sequence")
    image.AnatomicRegionSequence = Sequence([region])
    image.add_new(0x00090010, "LO", "SECRET")
    image.add_new(0x00091001, "LO", "hidden")
    _overlay(image)
    _by_modality(image, modality)
    return image


def _overlay(image: Dataset) -> None:
    for tag, kind, value in (
        (0x60000010, "US", 8),
        (0x60000011, "US", 8),
        (0x60000040, "CS", "G"),
        (0x60000050, "SS", [1, 1]),
        (0x60000100, "US", 1),
        (0x60000102, "US", 0),
        (0x60003000, "OW", b"\0" * 8),
    ):
        image.add_new(tag, kind, value)


def _by_modality(image: Dataset, modality: str) -> None:
    if modality == "CT":
        image.KVP, image.RescaleType, image.ConvolutionKernel = "120", "HU", "B30f"
    elif modality == "MR":
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "SE", "NONE", ""
        image.MRAcquisitionType, image.RepetitionTime, image.EchoTime = "2D", "500", "12"
        image.EchoTrainLength = "1"
    else:
        image.ImageType = ["ORIGINAL", "PRIMARY"]
        image.Units, image.CountsSource, image.SeriesType = "BQML", "EMISSION", ["STATIC", "IMAGE"]
        image.NumberOfSlices, image.CorrectedImage, image.DecayCorrection = 5, ["ATTN"], "START"
        image.CollimatorType, image.FrameReferenceTime, image.ImageIndex = "NONE", "0", 1
        image.ActualFrameDuration = "1000"
        image.DecayFactor = "1"
        image.PatientOrientationCodeSequence = image.PatientGantryRelationshipCodeSequence = Sequence()
        del image.PatientPosition
        isotope = Dataset()
        isotope.RadionuclideCodeSequence = Sequence()
        image.RadiopharmaceuticalInformationSequence = Sequence([isotope])
