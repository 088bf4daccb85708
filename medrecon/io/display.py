"""The window that a file asks to be shown in."""

from __future__ import annotations

import math
from typing import Any

import nibabel as nib
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from medrecon.io.scan import Scan

_TAGS = ("WindowCenter", "WindowWidth", "SharedFunctionalGroupsSequence")


def own_window(scan: Scan) -> tuple[float, float] | None:
    """The values that a scan's file wants shown black and white; None where it does not say.

    DICOM: the first pair of Window Center and Window Width of the middle slice (PS3.3 C.11.2.1.2, linear), or
    of an enhanced object's shared groups; NIfTI: cal_min and cal_max.

    Returns:
        (low, high) in source units, low < high.
    """
    try:
        if scan.format == "dicom":
            file = scan.files[len(scan.files) // 2]
            return _dicom(pydicom.dcmread(file, specific_tags=list(_TAGS), stop_before_pixels=True))
        if scan.format == "nifti":
            header: Any = nib.load(scan.files[0]).header
            return _ordered(float(header["cal_min"]), float(header["cal_max"]))
    except (OSError, InvalidDicomError, ValueError, TypeError, KeyError, nib.filebasedimages.ImageFileError):
        return None
    return None


def _dicom(header: Dataset) -> tuple[float, float] | None:
    groups = header.get("SharedFunctionalGroupsSequence") or []
    if groups and groups[0].get("FrameVOILUTSequence"):
        header = groups[0].FrameVOILUTSequence[0]
    centre, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    return _ordered(centre - width / 2, centre + width / 2)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (int, float, str)) else value[0])


def _ordered(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None
