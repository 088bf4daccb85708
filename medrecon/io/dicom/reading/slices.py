"""One slice's place, pixels and marks, from a classic header or a frame of an enhanced object."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrecon.io.dicom.reading.elements import HeaderFault
from medrecon.io.dicom.reading.frame_places import frame_places
from medrecon.io.dicom.reading.frames import Frame, check_rescale, first_frame
from medrecon.io.dicom.reading.groups import Item, attribute, functional_groups, no_collection
from medrecon.io.dicom.reading.header import MODALITY_LUT, PER_FRAME, REPAIR, Header
from medrecon.io.dicom.reading.marks import GROUPS, MARKS, Mark
from medrecon.io.scan import ReadOptions, ScanError, or_accept

MAX_FRAMES = 100_000
CONVERTED = "UnassignedPerFrameConvertedAttributesSequence"
GROUP_PLACES = [
    (attribute(path.partition(".")[0])[0], path.partition(".")[0], path.partition(".")[2], marks)
    for path, marks in GROUPS.items()
]
"""Tag and keyword of a functional group, the group in it, and the marks that it holds."""
PLACE = frozenset(("ImagePositionPatient", "InStackPositionNumber", "ImagePositionVolume", "SliceLocation"))
"""Dimensions of an enhanced object that count positions."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice.

    Attributes:
        name: how a user finds it: the file, and the frame where there are several.
        header: of its file.
        frame: where its pixels are, and its rescale.
        position: Image Position (Patient), LPS mm; () where it is missing and is made (`reading.placing`).
        orientation: six direction cosines, or None.
        spacing: between rows and between columns in mm, or None.
        thickness: Slice Thickness in mm, or None.
        rescaled: whether there is a rescale that is used.
        framed: of a frame of an enhanced object, the values of its marks (`reading.marks`) by name.
        dimensions: of such a frame, (name, index) of each dimension but those of place.
    """

    name: str
    header: Header
    frame: Frame
    position: tuple[float, ...]
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    rescaled: bool
    framed: Mapping[str, Any] = field(default_factory=dict)
    dimensions: tuple[tuple[str, int], ...] = ()

    def raw(self, mark: Mark) -> Any:
        """What it says of a mark, as it is stored; None if nothing."""
        return mark.raw(self.header.values, self.framed)


def slices_of(header: Header, options: ReadOptions) -> tuple[list[Slice], list[str]]:
    """The slices in one file, and what must be said of it.

    Args:
        header: of the file.
        options: what the user allows.

    Raises:
        ScanError: pixels or geometry are missing, absurd or cut short.
    """
    if "MOSAIC" in header.text("ImageType").upper():
        raise ScanError(
            "Siemens mosaic: the slices of a volume are tiles of one image",
            path=header.path,
            remedy="convert it with dcm2niix and give the NIfTI file",
        )
    frame, notes = first_frame(header, options)
    notes += [f"{header.path.name}: {n}" for n in header.notes]
    if frame.count > MAX_FRAMES:
        said = f"{frame.count} frames, at most {MAX_FRAMES} are read"
        raise ScanError(said, path=header.path, remedy=REPAIR)
    if PER_FRAME in header.seen:
        with no_collection():
            return _enhanced(header, frame, options), notes
    if frame.count == 1:
        return [_classic(header, frame, options)], notes
    if not options.accepts("frame-order"):
        raise ScanError(
            f"multi-frame image ({frame.count} frames) without functional groups: frames without positions",
            path=header.path,
            remedy="export it as single slices or as an enhanced object" + or_accept("frame-order"),
        )
    step = header.number("SpacingBetweenSlices") or header.number("SliceThickness") or 0.0
    apart = f", {step:g} mm apart" if step else ""
    notes.append(f"{frame.count} frames without positions: taken as slices in their order{apart}")
    return _in_order(_classic(header, frame, options), abs(step), options), notes


def place_of(
    values: Sequence[float] | None, header: Header, name: str, options: ReadOptions
) -> tuple[float, ...]:
    """A checked Image Position (Patient); () where it is missing and the user accepts that.

    Raises:
        ScanError: missing, not three finite numbers, or kilometres away.
    """
    if values is None or len(values) != 3 or not all(math.isfinite(v) and abs(v) < 1e5 for v in values):
        if options.accepts("no-geometry"):
            return ()
        where = "" if name == header.path.name else f" in {name}"
        raise ScanError(
            f"Image Position (Patient) is {'missing' if not values else 'absurd'}{where}: "
            "the slice cannot be placed",
            path=header.path,
            remedy=REPAIR + or_accept("no-geometry"),
        )
    return tuple(values)


def _classic(header: Header, frame: Frame, options: ReadOptions) -> Slice:
    return Slice(
        header.path.name,
        header,
        frame,
        place_of(header.numbers("ImagePositionPatient"), header, header.path.name, options),
        header.numbers("ImageOrientationPatient"),
        header.numbers("PixelSpacing"),
        header.number("SliceThickness"),
        bool(header.number("RescaleSlope") or header.text("RescaleIntercept"))
        and header.number("RescaleSlope") != 0
        and MODALITY_LUT not in header.seen,
    )


def _in_order(first: Slice, step: float, options: ReadOptions) -> list[Slice]:
    """The frames of an image that places only its first one."""
    header, count = first.header, first.frame.count
    return [
        replace(
            first,
            name=f"{header.path.name} frame {k + 1}",
            frame=replace(first.frame, index=k),
            position=place,
            framed={"InstanceNumber": (float(k + 1),)},
        )
        for k, place in enumerate(
            frame_places(header, first.position, first.orientation, step, count, options)
        )
    ]


def _enhanced(header: Header, frame: Frame, options: ReadOptions) -> list[Slice]:
    """The frames of an enhanced multi-frame object (PS3.3 C.7.6.16) by their functional groups."""
    try:
        shared, groups, dimensions = functional_groups(header.path)
        pointers = [_dimension(item) for item in dimensions]
        if len(groups) != frame.count:
            raise ScanError(
                f"{frame.count} frames, {len(groups)} of them described", path=header.path, remedy=REPAIR
            )
        marks = {} if shared is None else _frame_marks(shared)
        return [
            _framed(header, frame, k, group, shared, marks, pointers, options)
            for k, group in enumerate(groups)
        ]
    except ScanError:
        raise
    except (HeaderFault, struct.error, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ScanError(
            f"broken functional groups ({error})"[:300], path=header.path, remedy=REPAIR
        ) from None


def _framed(
    header: Header,
    first: Frame,
    k: int,
    group: Item,
    shared: Item | None,
    marks: Mapping[str, Any],
    pointers: Sequence[str],
    options: ReadOptions,
) -> Slice:
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
    scales = first.slope, first.intercept
    if slope is not None or intercept is not None:
        scales = slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
    thickness = _numbers(measures, "SliceThickness")
    orientation = _item(group, shared, "PlaneOrientationSequence")
    content = _item(group, shared, "FrameContentSequence")
    indices = _values(None if content is None else content.get("DimensionIndexValues"))
    instance = header.text("InstanceNumber")
    number = int(instance) - 1 if instance.isdecimal() and len(instance) < 10 else 0
    return Slice(
        name,
        header,
        replace(first, index=k, slope=scales[0], intercept=scales[1]),
        place_of(position, header, name, options),
        _numbers(orientation, "ImageOrientationPatient"),
        _numbers(measures, "PixelSpacing"),
        thickness[0] if thickness else None,
        slope is not None or intercept is not None or first.slope != 1 or first.intercept != 0,
        {**marks, **_frame_marks(group), "InstanceNumber": (float(number * MAX_FRAMES + k + 1),)},
        tuple((name, int(i)) for name, i in zip(pointers, indices, strict=False) if name),
    )


def _frame_marks(group: Item) -> dict[str, Any]:
    """The marks in functional groups; of a converted object those of its images (PS3.3 C.7.6.16.2.25)."""
    found: dict[str, Any] = {}
    there = group.elements()
    converted = _item(group, None, CONVERTED)
    for mark in MARKS if converted is not None else ():
        if mark.form != "nested":
            _put(found, mark, converted.get(mark.name))
    for tag, outer, inner, marks in GROUP_PLACES:
        if tag not in there:
            continue
        item = _item(group, None, outer)
        if inner and item is not None:
            item = _item(item, None, inner)
        for mark in marks if item is not None else ():
            _put(found, mark, item.get(mark.name))
    return found


def _put(found: dict[str, Any], mark: Mark, value: Any) -> None:
    if value is None or value == "":
        return
    parts = _values(value)
    found[mark.name] = (
        "\\".join(map(str, parts)) if mark.form in ("text", "code") else tuple(map(float, parts))
    )


def _values(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, MutableSequence) else [value]


def _dimension(item: Item) -> str:
    """The keyword of what a dimension counts; "" for one of place, or whose meaning is not told."""
    from pydicom.datadict import keyword_for_tag

    tag = item.get("DimensionIndexPointer")
    name = "" if tag is None else keyword_for_tag(tag) or f"dimension {tag}"
    return "" if name in PLACE else name


def _item(group: Item, shared: Item | None, name: str) -> Any:
    """The first item of a functional group: the frame's own, else the shared one."""
    for holder in (group, shared):
        found = None if holder is None else holder.get(name)
        if found:
            return found[0]
    return None


def _numbers(item: Item | None, name: str) -> tuple[float, ...] | None:
    value = None if item is None else item.get(name)
    if value is None:
        return None
    values = tuple(map(float, value if isinstance(value, list) else (value,)))
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
