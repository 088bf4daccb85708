"""Frames of an enhanced multi-frame object as headers of single-frame images (PS3.3 C.7.6.16)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset, Sequence

from medrecon.io.scan import Scan

_GROUPS = (0x52009229, 0x52009230)
_SEQUENCES = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": ["SE", "GR"]}


class Frames:
    """An enhanced object, whose frames are asked for as single-frame images.

    Attributes of the shared and the per-frame functional groups are lifted to the top level; what a
    single-frame CT, MR or PET image needs and an enhanced one spells otherwise is translated.

    Args:
        header: its data set, without pixels.
    """

    def __init__(self, header: Dataset) -> None:
        self.common = [e for e in decodable(header) if e.tag not in _GROUPS and not e.tag.is_private]
        self.shared = _group(header.get("SharedFunctionalGroupsSequence"), 0)
        self.per_frame = header.get("PerFrameFunctionalGroupsSequence")
        self.meta = header.get("file_meta", Dataset())

    def single(self, frame: int, index: int, scan: Scan) -> Dataset:
        """The header of one frame (counted from 0), which is slice `index` of the scan."""
        header = Dataset()
        header.file_meta = self.meta
        for element in self.common:
            header[element.tag] = element
        for group in (self.shared, _group(self.per_frame, frame)):
            for macro in decodable(group):
                if macro.VR == "SQ" and not macro.tag.is_private and len(macro.value or ()) == 1:
                    for item in decodable(macro.value[0]):
                        if not item.tag.is_private:
                            header[item.tag] = item
        header.pop("NumberOfFrames", None)
        if "FrameType" in header:
            header.ImageType = header.FrameType
        _defaults(header)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
        _fill(header, "SliceThickness", f"{scan.spacing[2]:.6g}")
        _fill(header, "ImagePositionPatient", [f"{v:.10g}" for v in (affine @ [0, 0, index, 1])[:3]])
        return header


def decodable(item: Dataset) -> Iterator[DataElement]:
    """The elements of a data set or a sequence item that decode."""
    for tag in list(item.keys()):
        with contextlib.suppress(Exception):  # pydicom raises whatever a broken value leads to
            yield item[tag]


def _group(sequence: Sequence | None, index: int) -> Dataset:
    return sequence[index] if sequence is not None and index < len(sequence) else Dataset()


def _defaults(header: Dataset) -> None:
    """Type 1 and 2 attributes of the single-frame classes, from their counterparts."""
    if header.get("Modality") == "MR":
        pulse = str(header.get("EchoPulseSequence", ""))
        _fill(header, "ScanningSequence", _SEQUENCES.get(pulse, "RM"))
        if "IR" not in header.ScanningSequence:
            header.pop("InversionTime", None)
        if header.get("InPlanePhaseEncodingDirection") == "COLUMN":
            header.InPlanePhaseEncodingDirection = "COL"
        _fill(header, "SequenceVariant", "NONE")
        _fill(header, "ScanOptions", "")
        _fill(header, "MRAcquisitionType", "2D")
        _fill(header, "EchoTime", _rounded(header.get("EffectiveEchoTime")))
        _fill(header, "RepetitionTime", "")
        _fill(header, "EchoTrainLength", "")
    elif header.get("Modality") == "CT":
        _fill(header, "KVP", "")
        _fill(header, "AcquisitionNumber", "")
        _fill(header, "RescaleIntercept", "0")
        _fill(header, "RescaleSlope", "1")
    if header.get("FrameLaterality") in ("R", "L", "B"):
        _fill(header, "ImageLaterality", header.FrameLaterality)
    _fill(header, "PatientPosition", "")


def _rounded(value: Any) -> str:
    return "" if value is None else f"{float(value):.6g}"


def _fill(header: Dataset, keyword: str, value: Any) -> None:
    if keyword not in header:
        setattr(header, keyword, value)
