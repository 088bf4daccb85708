"""The source of a derived series, slice by slice: full headers, without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
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
from medrecon.io.dicom.writing.carried import Known, attempt, carried_header, whole
from medrecon.io.dicom.writing.stored_values import StoredForm
from medrecon.io.scan import Scan

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

_OF_STUDY = ("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "StudyDescription")
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
        lost: keywords of attributes that could not be carried over.
    """

    header: Dataset
    uid: str
    sop_class: str
    frame: int = 0
    lost: frozenset[str] = frozenset()


def check_derivable(scan: Scan) -> None:
    """Refuse early what no derived series can be made from: all that writing needs is looked at.

    Raises:
        ScanError: a file cannot be read any more.
        UsageError: the source is not CT, MR or PET.
    """
    source_slices(scan)


def source_slices(scan: Scan) -> list[SourceSlice]:
    """Headers of the slices of a DICOM scan, in the order of the array's last axis.

    Raises:
        ScanError: a file cannot be read any more.
        UsageError: the source is not CT, MR or PET.
    """
    objects: dict[Path, tuple[Frames, frozenset[str]]] = {}
    known: Known = {}
    slices: list[SourceSlice] = []
    for index, frame in enumerate(scan.recipe):
        if frame.count == 1:
            header, lost = carried_header(frame.path, known)
        else:
            if frame.path not in objects:
                whole_object, lost = carried_header(frame.path, known)
                objects[frame.path] = Frames(whole_object), lost
            frames, lost = objects[frame.path]
            header = frames.single(frame.index, index, scan)
        if scan.recipe.frame_of_reference:
            header.FrameOfReferenceUID = scan.recipe.frame_of_reference
        if slices:
            _into_study(header, slices[0].header)
        if attempt(header, "RescaleSlope") == 0:  # not used (`--accept no-rescale`)
            del header.RescaleSlope
            header.pop("RescaleIntercept", None)
        number = frame.index + 1 if frame.count > 1 else 0
        slices.append(SourceSlice(header, *_identity(header, scan), number, lost))
    return slices


def _into_study(header: Dataset, first: Dataset) -> None:
    """Give an image the study of the first one, where it is of another (`--accept studies`)."""
    if header.get_item("StudyInstanceUID") == first.get_item("StudyInstanceUID"):
        return
    for keyword in _OF_STUDY:
        header.pop(keyword, None)
        if keyword in first:
            header[keyword] = first[keyword]


def is_padded(scan: Scan) -> bool:
    """Whether the source says which value its padded pixels have."""
    return whole(attempt(carried_header(scan.files[0], {})[0], "PixelPaddingValue")) is not None


def _identity(header: Dataset, scan: Scan) -> tuple[str, str]:
    """SOPInstanceUID and SOP class; the file meta or Modality tells a class that the data set leaves out.

    Raises:
        UsageError: it is the class of no CT, MR or PET image.
    """
    meta = header.get("file_meta", Dataset())
    uid = str(attempt(header, "SOPInstanceUID") or "")
    given = attempt(header, "SOPClassUID") or attempt(meta, "MediaStorageSOPClassUID")
    sop_class = str(given or _BY_MODALITY.get(scan.modality, ""))
    if sop_class not in CLASSIC:
        name = pydicom.uid.UID(sop_class).name or "unnamed objects"
        raise UsageError(
            f"no derived DICOM series can be made from {name}",
            path=scan.path,
            remedy="CT, MR and PET can; use --format nifti",
        )
    valid = pydicom.uid.UID(uid).is_valid and uid.startswith(("1.", "2."))
    return uid if valid else "", sop_class


def stored_form(scan: Scan) -> StoredForm:
    """How the source stores its values."""
    frames = list(scan.recipe)
    return StoredForm(
        bits=max(frame.stored for frame in frames),
        signed=any(frame.signed for frame in frames),
        slopes=np.array([frame.slope for frame in frames]),
        intercepts=np.array([frame.intercept for frame in frames]),
    )
