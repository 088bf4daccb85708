"""The source of a derived series, slice by slice: full headers, without pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from medrecon.errors import UsageError
from medrecon.io.dicom.reading.enhanced import Frames
from medrecon.io.dicom.writing.stored_values import StoredForm
from medrecon.io.scan import Scan, ScanError

CLASSIC = {
    CTImageStorage: CTImageStorage,
    MRImageStorage: MRImageStorage,
    PositronEmissionTomographyImageStorage: PositronEmissionTomographyImageStorage,
    EnhancedCTImageStorage: CTImageStorage,
    LegacyConvertedEnhancedCTImageStorage: CTImageStorage,
    EnhancedMRImageStorage: MRImageStorage,
    LegacyConvertedEnhancedMRImageStorage: MRImageStorage,
    EnhancedPETImageStorage: PositronEmissionTomographyImageStorage,
    LegacyConvertedEnhancedPETImageStorage: PositronEmissionTomographyImageStorage,
}
"""SOP class of a source -> the single-frame class that is derived from it."""

_BY_MODALITY = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}


@dataclass
class SourceSlice:
    """One slice of the source.

    Attributes:
        header: its attributes as a single-frame image has them, without pixels; ours to change.
        uid: SOPInstanceUID of the object it came from, "" where that is missing or no DICOM UID.
        sop_class: SOP class of that object.
        frame: number of the frame in that object, from 1; 0 for single-frame objects.
    """

    header: Dataset
    uid: str
    sop_class: str
    frame: int = 0


def check_derivable(scan: Scan) -> None:
    """Refuse early what no derived series can be made from.

    Raises:
        UsageError: the source is not CT, MR or PET.
    """
    sop_class = _identity(_read(scan.files[0], ["SOPClassUID", "SOPInstanceUID", "Modality"]))[1]
    if sop_class not in CLASSIC:
        name = pydicom.uid.UID(sop_class).name or "unnamed objects"
        raise UsageError(
            f"no derived DICOM series can be made from {name}",
            path=scan.path,
            remedy="CT, MR and PET can; use --format nifti",
        )


def source_slices(scan: Scan) -> list[SourceSlice]:
    """Headers of the slices of a DICOM scan, in the order of the array's last axis.

    Raises:
        ScanError: a file cannot be read any more.
        UsageError: the source is not CT, MR or PET.
    """
    check_derivable(scan)
    objects: dict[Path, Frames] = {}
    slices = []
    for index, frame in enumerate(scan.recipe):
        if frame.count == 1:
            header = _read(frame.path)
        else:
            if frame.path not in objects:
                objects[frame.path] = Frames(_read(frame.path))
            header = objects[frame.path].single(frame.index, index, scan)
        if scan.recipe.frame_of_reference:
            header.FrameOfReferenceUID = scan.recipe.frame_of_reference
        number = frame.index + 1 if frame.count > 1 else 0
        slices.append(SourceSlice(header, *_identity(header), number))
    return slices


def is_padded(scan: Scan) -> bool:
    """Whether the source says which value its padded pixels have."""
    return "PixelPaddingValue" in _read(scan.files[0], ["PixelPaddingValue"])


def _identity(header: Dataset) -> tuple[str, str]:
    """SOPInstanceUID and SOP class; the file meta or Modality tells a class that the data set leaves out."""
    meta = getattr(header, "file_meta", Dataset())
    uid = str(header.get("SOPInstanceUID") or "")
    sop_class = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    valid = pydicom.uid.UID(uid).is_valid and uid.startswith(("1.", "2."))
    return uid if valid else "", str(sop_class or _BY_MODALITY.get(header.get("Modality"), ""))


def stored_form(slices: list[SourceSlice]) -> StoredForm:
    """How the source stores its values."""
    return StoredForm(
        bits=max(int(item.header.get("BitsStored", 16)) for item in slices),
        signed=any(item.header.get("PixelRepresentation", 0) for item in slices),
        slopes=np.array([_number(item.header, "RescaleSlope", 1.0) for item in slices]),
        intercepts=np.array([_number(item.header, "RescaleIntercept", 0.0) for item in slices]),
    )


def _number(header: Dataset, keyword: str, missing: float) -> float:
    value = header.get(keyword)
    return missing if value is None or value == "" else float(value)


def _read(path: Path, tags: list[str] | None = None) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    except (OSError, InvalidDicomError, ValueError, KeyError) as error:
        raise ScanError(
            f"cannot be read again for writing ({error})", path=path, remedy="keep the source until the end"
        ) from error
