"""Series made in memory for the tests of volumes: many slices, any marks, any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SIDE = 8


def write_slices(folder: Path, slices: Sequence[Mapping[str, Any]], modality: str = "MR") -> None:
    """Write one series.

    Args:
        folder: for its files, made here. Names follow the order given, InstanceNumber too unless it is given.
        slices: attributes of each image; `z` is its position in mm, `value` that of all its pixels,
            `private` ((tag, creator), tag, VR, value).
        modality: "MR" or "CT".
    """
    folder.mkdir(parents=True, exist_ok=True)
    for k, attributes in enumerate(slices):
        image = _image(folder, modality, k)
        z, value = attributes.get("z", 0.0), int(attributes.get("value", k))
        image.ImagePositionPatient = [-10, -20, f"{z:.6g}"]
        image.PixelData = np.full((SIDE, SIDE), value, "<u2").tobytes()
        for name, given in attributes.items():
            if name in ("z", "value"):
                continue
            if name == "private":
                (tag, creator), element, vr, held = given
                image.add_new(tag, "LO", creator)
                image.add_new(element, vr, held)
            elif given is None:
                delattr(image, name)
            else:
                setattr(image, name, given)
        image.save_as(folder / f"IM{k:04d}.dcm", enforce_file_format=True)


def _image(folder: Path, modality: str, k: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    image.SOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(k)])
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.Modality, image.PatientName, image.PatientID = modality, "Made^Up", "1"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(image, name, generate_uid(entropy_srcs=[str(folder), name]))
    image.ImageType, image.SeriesNumber, image.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], 3, k + 1
    image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.5]
    image.SliceThickness = 3
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    if modality == "CT":
        image.RescaleSlope, image.RescaleIntercept, image.KVP = 1, 0, 120
        image.ConvolutionKernel = "B30f"
    else:
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "NONE", ""
        image.MRAcquisitionType, image.RepetitionTime, image.EchoTime = "2D", 500, 12
    return image


def planes(scan: Any) -> list[int]:
    """The value of each slice of a scan that `write_slices` made."""
    from medrecon.io import read_scan

    values = read_scan(scan)
    assert (values == values[:1, :1]).all()
    return values[0, 0].tolist()
