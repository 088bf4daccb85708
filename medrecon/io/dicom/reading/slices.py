"""One slice's place, pixels and marks, from a classic header or a frame of an enhanced object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecon.io.dicom.reading.frames import Frame, check_rescale, first_frame
from medrecon.io.dicom.reading.header import PER_FRAME, REPAIR, Header
from medrecon.io.scan import ScanError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAMES = 100_000
CLASSIC_MARKS = (
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "ImageType",
    "ComplexImageComponent",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
"""What tells volumes of one classic series apart, the plainest first."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice.

    Attributes:
        name: how a user finds it: the file, and the frame where there are several.
        header: of its file.
        frame: where its pixels are, and its rescale.
        position: Image Position (Patient), LPS mm.
        orientation: six direction cosines, or None.
        spacing: between rows and between columns in mm, or None.
        thickness: Slice Thickness in mm, or None.
        rescaled: whether slope or intercept are given.
        units: Rescale Type.
        marks: (name, value) pairs that may tell volumes apart.
        number: Instance Number or frame number.
    """

    name: str
    header: Header
    frame: Frame
    position: tuple[float, ...]
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    rescaled: bool
    units: str
    marks: tuple[tuple[str, str], ...]
    number: float


def slices_of(header: Header) -> tuple[list[Slice], list[str]]:
    """The slices in one file, and what must be said of it.

    Raises:
        ScanError: pixels or geometry are missing, absurd or cut short.
    """
    if "MOSAIC" in header.text("ImageType").upper():
        raise ScanError(
            "Siemens mosaic: the slices of a volume are tiles of one image",
            path=header.path,
            remedy="convert it with dcm2niix and give the NIfTI file",
        )
    frame, note = first_frame(header)
    notes = [note] if note else []
    notes += [f"{header.path.name}: {n}" for n in header.notes]
    if PER_FRAME in header.seen:
        return _enhanced(header, frame), notes
    if frame.count > 1:
        raise ScanError(
            f"multi-frame image ({frame.count} frames) without functional groups: frames without positions",
            path=header.path,
            remedy="export it as single slices or as an enhanced object",
        )
    return [_classic(header, frame)], notes


def place_of(values: Sequence[float] | None, header: Header, name: str) -> tuple[float, ...]:
    """A checked Image Position (Patient).

    Raises:
        ScanError: missing, not three finite numbers, or kilometres away.
    """
    if values is None or len(values) != 3 or not all(math.isfinite(v) and abs(v) < 1e5 for v in values):
        where = "" if name == header.path.name else f" in {name}"
        raise ScanError(
            f"Image Position (Patient) is {'missing' if not values else 'absurd'}{where}: "
            "the slice cannot be placed",
            path=header.path,
            remedy=REPAIR,
        )
    return tuple(values)


def _classic(header: Header, frame: Frame) -> Slice:
    marks = tuple((name, header.text(name)) for name in CLASSIC_MARKS)
    bvalue = header.double("DiffusionBValue")
    number = header.text("InstanceNumber")
    return Slice(
        header.path.name,
        header,
        frame,
        place_of(header.numbers("ImagePositionPatient"), header, header.path.name),
        header.numbers("ImageOrientationPatient"),
        header.numbers("PixelSpacing"),
        header.number("SliceThickness"),
        bool(header.text("RescaleSlope") or header.text("RescaleIntercept")),
        header.text("RescaleType"),
        (*marks, ("DiffusionBValue", f"{bvalue[0]:g}" if bvalue else "")),
        float(number) if number.lstrip("+-").isdigit() else math.nan,
    )


def _enhanced(header: Header, frame: Frame) -> list[Slice]:
    """The frames of an enhanced multi-frame object (PS3.3 C.7.6.16) by their functional groups."""
    import pydicom

    try:
        dataset = pydicom.dcmread(header.path, stop_before_pixels=True)
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    except Exception as error:  # pydicom raises whatever a broken header leads to
        raise ScanError(
            f"broken functional groups ({error})"[:300], path=header.path, remedy=REPAIR
        ) from None
    if len(groups) != frame.count or frame.count > MAX_FRAMES:
        raise ScanError(
            f"{frame.count} frames, {len(groups)} of them described", path=header.path, remedy=REPAIR
        )
    try:
        return [_framed(header, frame, k, group, shared) for k, group in enumerate(groups)]
    except ScanError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise ScanError(
            f"broken functional groups ({error})"[:300], path=header.path, remedy=REPAIR
        ) from None


def _framed(header: Header, first: Frame, k: int, group: Dataset, shared: Dataset | None) -> Slice:
    name = f"{header.path.name} frame {k + 1}"
    position = _numbers(_item(group, shared, "PlanePositionSequence"), "ImagePositionPatient")
    measures = _item(group, shared, "PixelMeasuresSequence")
    scaling = _item(group, shared, "PixelValueTransformationSequence")
    slope, intercept = (_numbers(scaling, f"Rescale{part}") for part in ("Slope", "Intercept"))
    check_rescale(
        slope[0] if slope else None,
        intercept[0] if intercept else None,
        first.stored,
        header.path,
        f" in {name}",
    )
    frame = first
    if slope is not None or intercept is not None:
        frame = replace(first, slope=slope[0] if slope else 1.0, intercept=intercept[0] if intercept else 0.0)
    thickness = _numbers(measures, "SliceThickness")
    orientation = _item(group, shared, "PlaneOrientationSequence")
    return Slice(
        name,
        header,
        replace(frame, index=k),
        place_of(position, header, name),
        _numbers(orientation, "ImageOrientationPatient"),
        _numbers(measures, "PixelSpacing"),
        thickness[0] if thickness else None,
        slope is not None or intercept is not None or first.slope != 1 or first.intercept != 0,
        str(getattr(scaling, "RescaleType", "") or ""),
        _frame_marks(group, shared),
        float(k + 1),
    )


def _frame_marks(group: Dataset, shared: Dataset | None) -> tuple[tuple[str, str], ...]:
    """What may tell the volumes of an enhanced object apart."""
    marks = []
    for sequence, names in (
        ("MREchoSequence", ("EffectiveEchoTime",)),
        ("FrameContentSequence", ("StackID", "TemporalPositionIndex")),
        ("MRImageFrameTypeSequence", ("FrameType", "ComplexImageComponent")),
        ("CTImageFrameTypeSequence", ("FrameType",)),
        ("MRDiffusionSequence", ("DiffusionBValue", "DiffusionDirectionality")),
        ("FrameContentSequence", ("FrameAcquisitionNumber", "FrameReferenceDateTime")),
    ):
        item = _item(group, shared, sequence)
        for name in names:
            value = None if item is None else item.get(name)
            marks.append((name, "" if value is None else str(value)))
    return tuple(marks)


def _item(group: Dataset, shared: Dataset | None, name: str) -> Any:
    """The first item of a functional group: the frame's own, else the shared one."""
    for holder in (group, shared):
        found = None if holder is None else holder.get(name)
        if found:
            return found[0]
    return None


def _numbers(item: Any, name: str) -> tuple[float, ...] | None:
    value = None if item is None else item.get(name)
    if value is None or value == "":
        return None
    values = (
        tuple(float(v) for v in value)
        if isinstance(value, (list, tuple)) or hasattr(value, "append")
        else (float(value),)
    )
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} is not finite")
    return values


def common_folder(slices: Sequence[Slice]) -> Path:
    """What a user would name: the folder of the files, the file where there is one."""
    paths = list(dict.fromkeys(s.header.path for s in slices))
    if len(paths) == 1:
        return paths[0]
    folder = paths[0].parent
    while any(folder not in p.parents for p in paths):
        folder = folder.parent
    return folder
