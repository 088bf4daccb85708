"""From the headers of one DICOM series to scans, or to a refusal."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.io.dicom_header import REPAIR, Header
from medrecon.io.dicom_pixels import folder_of
from medrecon.io.frames import Frame, first_frame
from medrecon.io.geometry import check_orientation, check_spacing, stack
from medrecon.io.scan import ReadOptions, Scan, ScanError
from medrecon.io.volumes import drop_copies, split_volumes


def series_scan(headers: Sequence[Header], volume: int | None, options: ReadOptions) -> Scan:
    """The scan that the classic slices of one series make.

    Args:
        headers: one per slice, image objects only, one series.
        volume: which volume of a 4D or multi-echo series.
        options: what the user allows.

    Raises:
        ScanError: whatever makes the volume uncertain.
    """
    headers, notes = drop_copies(headers)
    path = folder_of([h.path for h in headers])
    frames = []
    for header in headers:
        frame, note = first_frame(header)
        frames.append(frame)
        notes += [note] if note else []
        notes += [f"{header.path.name}: {n}" for n in header.notes]
    _check_alike(headers, frames, path)
    directions = check_orientation(headers[0].numbers("ImageOrientationPatient"), headers[0].path)
    spacing = check_spacing(headers[0].numbers("PixelSpacing"), headers[0].path)
    positions = _positions(headers)
    chosen = split_volumes(headers, positions, np.cross(directions[0], directions[1]), volume, path)
    headers, frames = [headers[i] for i in chosen], [frames[i] for i in chosen]
    found = stack(
        positions[chosen],
        directions,
        spacing,
        headers[0].number("SliceThickness"),
        [h.path.name for h in headers],
        path,
    )
    if found.tilt is not None:
        raise ScanError(
            f"sheared grid (gantry tilt): each slice is shifted by {np.hypot(*found.tilt):.3f} mm in its plane",
            path=path,
            remedy="use --resample-tilt to resample it onto a straight grid",
        )
    headers, frames = [headers[i] for i in found.order], [frames[i] for i in found.order]
    notes += _said(headers)
    first = headers[0]
    modality = first.text("Modality")
    return Scan(
        path=path,
        format="dicom",
        files=tuple(h.path for h in headers),
        shape=(frames[0].columns, frames[0].rows, len(frames)),
        affine=found.affine,
        modality=modality,
        units="HU" if modality == "CT" else first.text("Units"),
        key=scan_key(first.text("SeriesInstanceUID") or str(first.path.parent), volume),
        description=describe(first),
        series_uid=first.text("SeriesInstanceUID"),
        volume=volume,
        notes=tuple(dict.fromkeys(notes)),
        options=options,
        recipe=tuple(frames),
    )


def scan_key(identity: str, volume: int | None) -> str:
    """Eight hexadecimal digits for a series or file and a volume of it."""
    return hashlib.sha256(f"{identity}|{volume}".encode(errors="surrogateescape")).hexdigest()[:8]


def describe(header: Header) -> str:
    """Series Description in its character set."""
    import pydicom.charset

    raw = header.values.get(0x0008103E, b"").strip(b" \0")
    try:
        names = pydicom.charset.convert_encodings(header.text("SpecificCharacterSet").split("\\"))
        return str(pydicom.charset.decode_bytes(raw, names, set()))
    except (LookupError, UnicodeError, ValueError):
        return raw.decode("latin-1")


def _positions(headers: Sequence[Header]) -> np.ndarray:
    positions = []
    for header in headers:
        place = header.numbers("ImagePositionPatient")
        if place is None or len(place) != 3 or max(map(abs, place)) > 1e5:
            raise ScanError(
                f"Image Position (Patient) is {'missing' if place is None else 'absurd'}: the slice cannot be placed",
                path=header.path,
                remedy=REPAIR,
            )
        positions.append(place)
    return np.asarray(positions)


def _check_alike(headers: Sequence[Header], frames: Sequence[Frame], path: Path) -> None:
    """Everything that must be the same in each slice of one volume."""
    first = headers[0]
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"):
        _one(headers, [h.text(name) for h in headers], name, path)
    _one(headers, [f"{f.columns} x {f.rows}" for f in frames], "matrix size", path)
    has = [h.text("RescaleSlope") != "" or h.text("RescaleIntercept") != "" for h in headers]
    _one(headers, ["present" if h else "missing" for h in has], "Rescale Slope/Intercept", path)
    for name, tolerance in (("ImageOrientationPatient", 1e-3), ("PixelSpacing", 1e-4)):
        reference = first.numbers(name)
        for header in headers:
            values = header.numbers(name)
            same = (values is None) == (reference is None) and (
                values is None
                or reference is None
                or (
                    len(values) == len(reference)
                    and np.allclose(values, reference, atol=tolerance, rtol=1e-4)
                )
            )
            if not same:
                raise ScanError(
                    f"slices differ in {name}: {first.text(name)} in {first.path.name}, "
                    f"{header.text(name) or 'missing'} in {header.path.name}",
                    path=header.path,
                    remedy="separate what does not belong to the volume",
                )
    if first.text("Modality") == "CT" and not any(has):
        raise ScanError(
            "CT without Rescale Slope and Intercept: no Hounsfield units", path=path, remedy=REPAIR
        )


def _one(headers: Sequence[Header], values: Sequence[str], name: str, path: Path) -> None:
    counts = Counter(values)
    if len(counts) > 1:
        common = counts.most_common()[0][0]
        odd = next(i for i, v in enumerate(values) if v != common)
        shown = ("", "") if name == "PatientID" else (f" {values[odd]!r}", f", others have {common!r}")
        raise ScanError(
            f"slices differ in {name}: {headers[odd].path.name} has{shown[0] or ' another'}{shown[1]}",
            path=headers[odd].path,
            remedy="separate what does not belong to the volume",
        )


def _said(headers: Sequence[Header]) -> list[str]:
    """What must be said of a readable series."""
    first, notes = headers[0], []
    announced = first.number("ImagesInAcquisition")
    if announced is not None and announced > len(headers):
        notes.append(f"Images in Acquisition says {announced:g}, {len(headers)} slices are there")
    if first.text("PhotometricInterpretation") == "MONOCHROME1":
        notes.append("MONOCHROME1: low values are shown bright; values are read as stored")
    if len(headers) == 1:
        notes.append("a single slice: its Slice Thickness stands in for the slice distance")
    return notes


def with_notes(scan: Scan, notes: Sequence[str]) -> Scan:
    """The scan with more notes."""
    return replace(scan, notes=tuple(dict.fromkeys((*scan.notes, *notes))))
