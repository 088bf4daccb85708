"""From the headers of one DICOM series to a scan, or to a refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.io.dicom.reading.header import REPAIR, Header
from medrecon.io.dicom.reading.kinds import left_out_reason
from medrecon.io.dicom.reading.notes import header_notes
from medrecon.io.dicom.reading.placing import placed
from medrecon.io.dicom.reading.regrid import DicomRecipe, straight_grid
from medrecon.io.dicom.reading.slices import Slice, common_folder, slices_of
from medrecon.io.dicom.reading.texts import decode
from medrecon.io.dicom.reading.volumes import split_volumes
from medrecon.io.dicom.terms import MODALITIES, UNITS, body_part, defined
from medrecon.io.distances import half_unit
from medrecon.io.files.names import hiding
from medrecon.io.geometry import Stack, check_orientation, check_spacing, stack
from medrecon.io.scan import ReadOptions, Scan, ScanError, or_accept, scan_key

SEPARATE = "separate what does not belong to the volume"
FEW_FRAMES = 3
"""So many frames of reference in one series are a mistake; one for each slice is a de-identifier's work."""


def series_scan(headers: Sequence[Header], volume: int | None, options: ReadOptions) -> Scan:
    """The scan that the images of one series make.

    Args:
        headers: one per file, image objects only, one series, no copies.
        volume: which volume of a series that holds several.
        options: what the user allows.

    Raises:
        ScanError: whatever makes the volume uncertain.
    """
    slices: list[Slice] = []
    notes: list[str] = []
    for header in headers:
        found, said = slices_of(header, options)
        slices += found
        notes += said
    path = common_folder(slices)
    made: list[str] = []
    if options.accepts("no-geometry"):
        slices, made = placed(slices)
    notes += _shared(headers, options)
    frame, said = _frame_of_reference(headers, options)
    chosen = split_volumes(slices, volume, options, path)
    slices = [slices[i] for i in chosen.indices]
    lined = _lined(slices, path, options)
    slices = [slices[i] for i in lined.order]
    hide = hiding(header.path for header in headers)
    values = _check_values(slices, path, options)
    notes = [*map(hide, (*notes, *made, *said, *chosen.notes, *values, *lined.notes)), *header_notes(slices)]
    scan = _scan(slices, path, lined, frame, chosen.volume, tuple(dict.fromkeys(notes)), options)
    return replace(scan, recipe=replace(scan.recipe, placed=bool(made)))


def _shared(headers: Sequence[Header], options: ReadOptions) -> list[str]:
    """What images of one series must share, and what must be said where the user accepts that they do not.

    Raises:
        ScanError: they are of several patients, studies or modalities.
    """
    paths = [h.path for h in headers]
    for name in ("PatientID", "Modality"):
        _one([h.text(name) for h in headers], name, paths)
    notes = []
    studies = [h.text("StudyInstanceUID") for h in headers]
    if not options.accepts("studies"):
        _one(studies, "StudyInstanceUID", paths, or_accept("studies"))
    elif len(set(studies)) > 1:
        notes.append(f"{len(set(studies))} Study Instance UIDs in one series: results have that of the first")
    if reason := left_out_reason(headers[0], ReadOptions()):
        notes.append(f"{reason}: read all the same")
    uids = [uid for uid in (h.text("SOPInstanceUID") for h in headers) if uid]
    if len(uids) > len(set(uids)):
        notes.append(f"{len(uids)} images have {len(set(uids))} SOP Instance UIDs: read as different ones")
    return notes


def _lined(slices: Sequence[Slice], path: Path, options: ReadOptions) -> Stack:
    """The slices of one volume on their grid."""
    first = slices[0]
    directions = check_orientation(first.orientation, first.header.path)
    spacing = check_spacing(first.spacing, first.header.path)
    thickness = first.thickness
    notes: tuple[str, ...] = ()
    if len(slices) == 1 and not thickness and options.accepts("no-thickness"):
        thickness, notes = 1.0, ("no Slice Thickness: the slice is taken to be 1 mm thick",)
    digits = (
        half_unit([s.header.text("ImagePositionPatient") or _printed(s.position) for s in slices]),
        min(0.005, half_unit([first.header.text("ImageOrientationPatient") or _printed(first.orientation)])),
    )
    lined = stack(
        np.asarray([s.position for s in slices]),
        directions,
        spacing,
        thickness,
        [s.name for s in slices],
        path,
        digits=digits,
        resample=options.resample,
    )
    return replace(lined, notes=(*lined.notes, *notes))


def _printed(values: Sequence[float] | None) -> str:
    return "\\".join(repr(v).removesuffix(".0") for v in values or ())


def _scan(
    slices: Sequence[Slice],
    path: Path,
    lined: Stack,
    frame_of_reference: str,
    volume: int | None,
    notes: tuple[str, ...],
    options: ReadOptions,
) -> Scan:
    first, frame = slices[0].header, slices[0].frame
    shape = (frame.columns, frame.rows, len(slices))
    affine, resampling = lined.affine, None
    if lined.drift is not None or lined.places is not None:
        resampling, shape, affine = straight_grid(lined, shape)
        if lined.drift is not None:
            notes += ("slices shifted in plane (gantry tilt): resampled linearly onto a straight grid",)
    options.check_size(shape, 4, path)
    modality = defined(first.text("Modality"), MODALITIES)
    kind = _rescale_type(slices[0]) if modality == "CT" else first.text("Units")
    return Scan(
        path=path,
        format="dicom",
        files=tuple(dict.fromkeys(s.header.path for s in slices)),
        shape=shape,
        affine=affine,
        modality=modality,
        body_part=body_part(first.text("BodyPartExamined")),
        units="HU" if modality == "CT" and not kind else defined(kind, UNITS),
        key=scan_key(identity(first), volume),
        description=describe(first),
        series_uid=first.text("SeriesInstanceUID"),
        volume=volume,
        notes=notes,
        options=options,
        recipe=DicomRecipe(tuple(s.frame for s in slices), resampling, frame_of_reference),
    )


def _rescale_type(one: Slice) -> str:
    return str(one.framed.get("RescaleType") or one.header.text("RescaleType"))


def _frame_of_reference(headers: Sequence[Header], options: ReadOptions) -> tuple[str, list[str]]:
    """One frame of reference made for a series whose images do not share theirs, and what must be said of it.

    Raises:
        ScanError: images of a few frames of reference are mixed.
    """
    uids = [h.text("FrameOfReferenceUID") for h in headers]
    count = len(set(uids))
    if count == 1:
        return "", []
    if not (count == len(uids) > FEW_FRAMES and all(uids)) and not options.accepts("frames"):
        _one(uids, "FrameOfReferenceUID", [h.path for h in headers], or_accept("frames"))
    from pydicom.uid import generate_uid

    made = generate_uid(entropy_srcs=["frame of reference", identity(headers[0])])
    return str(made), [
        f"{count} Frame of Reference UIDs in {len(uids)} images of one series: one is made for all"
    ]


def identity(header: Header) -> str:
    """What makes a series one: its UID, or where it lies and its number."""
    return (
        header.text("SeriesInstanceUID") or f"{header.path.parent.absolute()}|{header.text('SeriesNumber')}"
    )


def describe(header: Header) -> str:
    """Series Description in its character set."""
    return decode(header.values.get(0x0008103E, b"").strip(b" \0"), header.text("SpecificCharacterSet"))


def _check_values(slices: Sequence[Slice], path: Path, options: ReadOptions) -> list[str]:
    """Either each slice of a volume has a rescale or none; CT must have one. Returns what must be said."""
    paths = [s.header.path for s in slices]
    if options.accepts("no-rescale"):
        bare = sum(not s.rescaled for s in slices)
        return [f"{bare} slice(s) without a usable rescale: read as stored"] if bare else []
    accept = or_accept("no-rescale")
    texts = [_rescale_state(s) for s in slices]
    _one(texts, "Rescale Slope/Intercept", paths, accept)
    if slices[0].header.text("Modality") == "CT" and not slices[0].rescaled:
        raise ScanError(
            "CT without Rescale Slope and Intercept: no Hounsfield units", path=path, remedy=REPAIR + accept
        )
    return []


def _rescale_state(one: Slice) -> str:
    given = [name for name in ("RescaleSlope", "RescaleIntercept") if one.header.text(name)]
    return (
        f"only {given[0]}" if len(given) == 1 and not one.framed else "present" if one.rescaled else "missing"
    )


def _one(values: Sequence[str], name: str, paths: Sequence[Path], accept: str = "") -> None:
    """What the files of one series must share."""
    counts = Counter(values)
    if len(counts) > 1:
        common = counts.most_common()[0][0]
        odd = next(i for i, v in enumerate(values) if v != common)
        told = {"matrix size", "Rescale Slope/Intercept"}  # all else may hold a name
        shown = f"{values[odd]!r}, others have {common!r}" if name in told else "another one"
        raise ScanError(
            f"slices differ in {name}: {paths[odd].name} has {shown}",
            path=paths[odd],
            remedy=SEPARATE + accept,
        )
