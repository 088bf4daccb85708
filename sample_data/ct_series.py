"""A CT series as a scanner would write it: CT Image Storage, one file a slice, fixed UIDs and dates."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

INTERCEPT = -1024


def uid(*names: str) -> UID:
    """A UID under 2.25 that depends on the names alone."""
    digest = hashlib.sha256("/".join(["medrecon sample data", *names]).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def decimal(values: np.ndarray) -> list[str]:
    """Numbers as Decimal Strings: at most 16 characters each (PS3.5, 6.2)."""
    texts = []
    for value in np.asarray(values, float).ravel():
        digits = 12
        while len(text := f"{value:.{digits}f}") > 16:
            digits -= 1
        texts.append(text.rstrip("0").rstrip(".") if "." in text else text)
    return [t if t not in ("-0", "") else "0" for t in texts]


def common(affine: np.ndarray, shape: tuple[int, ...]) -> Dataset:
    """All attributes that the slices share.

    Args:
        affine: (4, 4), voxel indices (column, row, slice) to LPS mm.
        shape: (columns, rows, slices).
    """
    spacing = np.round(np.linalg.norm(affine[:3, :3], axis=0), 6)
    directions = affine[:3, :3] / spacing
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200101"
    ds.StudyTime, ds.SeriesTime, ds.AcquisitionTime, ds.ContentTime = "120000", "120100", "120110", "120120"
    ds.InstanceCreationDate, ds.InstanceCreationTime = "20200101", "120130"
    ds.AccessionNumber = "SAMPLE1"
    ds.Modality = "CT"
    ds.Manufacturer = "medrecon"
    ds.ManufacturerModelName = "computed phantom"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"
    ds.InstitutionName = "none: computed"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Sample scan, no patient"
    ds.SeriesDescription = "Torso portal venous 2.5"
    ds.PatientName = "Sample^Torso"
    ds.PatientID = "SAMPLE-TORSO"
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.BodyPartExamined = "ABDOMEN"
    ds.PatientPosition = "HFS"
    ds.ScanOptions = "HELICAL MODE"
    ds.KVP = "120"
    ds.DataCollectionDiameter = "500"
    ds.ReconstructionDiameter = decimal(np.array([shape[0] * spacing[0]]))[0]
    ds.DistanceSourceToDetector = "1000"
    ds.DistanceSourceToPatient = "550"
    ds.GantryDetectorTilt = "0"
    ds.TableHeight = "150"
    ds.RotationDirection = "CW"
    ds.ExposureTime = "500"
    ds.XRayTubeCurrent = "250"
    ds.Exposure = "125"
    ds.FilterType = "BODY FILTER"
    ds.FocalSpots = "1.2"
    ds.ConvolutionKernel = "STANDARD"
    ds.SliceThickness = decimal(spacing[2:])[0]
    ds.ContrastBolusAgent = "none: computed"
    ds.ProtocolName = "sample"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("ct study"), uid("ct series")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", "2", "1"
    ds.FrameOfReferenceUID = uid("ct frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.ImageOrientationPatient = decimal(directions[:, :2].T)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Columns, ds.Rows = shape[:2]
    ds.PixelSpacing = decimal(spacing[[1, 0]])  # between rows first, then between columns (PS3.3, 10.7.1.3)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(INTERCEPT), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = ["50", "-600"], ["400", "1500"]
    ds.WindowCenterWidthExplanation = ["soft tissue", "lung"]
    return ds


def write_series(folder: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write one file for each slice, from the head downwards as scanners number them.

    Args:
        folder: where to.
        volume: (columns, rows, slices) int16, HU, at least -1024.
        affine: (4, 4), voxel indices to LPS mm.
    """
    slices = volume.shape[2]
    for number in range(1, slices + 1):
        k = slices - number
        ds = common(affine, volume.shape)
        position = affine[:3, 2] * k + affine[:3, 3]
        ds.InstanceNumber = str(number)
        ds.ImagePositionPatient = decimal(position)
        ds.SliceLocation = decimal(affine[:3, 2] @ position / np.linalg.norm(affine[:3, 2]))[0]
        ds.SOPInstanceUID = uid("ct instance", str(number))
        stored = (volume[:, :, k].T.astype(np.int32) - INTERCEPT).astype("<u2")
        ds.PixelData = stored.tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.ImplementationClassUID = uid("implementation")
        ds.file_meta.ImplementationVersionName = "MEDRECON_SAMPLE"
        ds.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
