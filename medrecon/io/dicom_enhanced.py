"""Frames of an enhanced multi-frame object as headers of single-frame images (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import DataElement, Dataset, Sequence

from medrecon.io.scan import Scan

_GROUPS = (0x52009229, 0x52009230)
_SEQUENCES = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": ["SE", "GR"]}


def classic_headers(header: Dataset, scan: Scan) -> list[tuple[Dataset, int]]:
    """One single-frame header for each slice of the scan, and the number (from 1) of its frame.

    Attributes of the shared and the per-frame functional groups are lifted to the top level; what a
    single-frame CT or MR image needs and an enhanced one spells otherwise is translated.
    """
    shared = _group(header.get("SharedFunctionalGroupsSequence"), 0)
    count = int(header.get("NumberOfFrames", 1))
    frames = [_group(header.get("PerFrameFunctionalGroupsSequence"), index) for index in range(count)]
    chosen = [frame.index for frame in scan.recipe]
    base = [element for element in header if element.tag not in _GROUPS and not element.tag.is_private]
    return [(_flatten(base, shared, frames[index], scan, k), index + 1) for k, index in enumerate(chosen)]


def _group(sequence: Sequence | None, index: int) -> Dataset:
    return sequence[index] if sequence is not None and index < len(sequence) else Dataset()


def _flatten(base: list[DataElement], shared: Dataset, frame: Dataset, scan: Scan, index: int) -> Dataset:
    header = Dataset()
    for element in base:
        header[element.tag] = element
    for group in (shared, frame):
        for element in group:
            if (
                element.VR == "SQ"
                and not element.tag.is_private
                and element.value
                and len(element.value) == 1
            ):
                for item in element.value[0]:
                    if not item.tag.is_private:
                        header[item.tag] = item
    header.pop("NumberOfFrames", None)
    if "FrameType" in header:
        header.ImageType = header.FrameType
    _defaults(header, scan)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
    if "SliceThickness" not in header:
        header.SliceThickness = f"{scan.spacing[2]:.6g}"
    if "ImagePositionPatient" not in header:
        header.ImagePositionPatient = [f"{v:.10g}" for v in (affine @ [0, 0, index, 1])[:3]]
    return header


def _defaults(header: Dataset, scan: Scan) -> None:
    """Type 1 and 2 attributes of the single-frame classes, from their counterparts."""
    if header.get("Modality") == "MR":
        pulse = str(header.get("EchoPulseSequence", ""))
        _fill(header, "ScanningSequence", _SEQUENCES.get(pulse, "RM"))
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
    _fill(header, "PatientPosition", "")


def _rounded(value: Any) -> str:
    return "" if value is None else f"{float(value):.6g}"


def _fill(header: Dataset, keyword: str, value: Any) -> None:
    if keyword not in header:
        setattr(header, keyword, value)
