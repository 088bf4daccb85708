"""From the headers of one DICOM series to a scan, or to a refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medrecon.io.dicom.reading.header import REPAIR, Header
from medrecon.io.dicom.reading.notes import header_notes
from medrecon.io.dicom.reading.slices import Slice, common_folder, slices_of
from medrecon.io.dicom.reading.tilt import DicomRecipe, straight_grid
from medrecon.io.dicom.reading.volumes import split_volumes
from medrecon.io.dicom.terms import MODALITIES, UNITS, body_part, defined
from medrecon.io.files.names import hiding
from medrecon.io.geometry import Stack, check_orientation, check_spacing, stack
from medrecon.io.scan import ReadOptions, Scan, ScanError, scan_key

SEPARATE = "separate what does not belong to the volume"


def series_scan(headers: Sequence[Header], volume: int | None, options: ReadOptions) -> Scan:
    """The scan that the images of one series make.

    Args:
        headers: one per file, image objects only, one series, no copies.
        volume: which volume of a 4D or multi-echo series.
        options: what the user allows.

    Raises:
        ScanError: whatever makes the volume uncertain.
    """
    slices: list[Slice] = []
    notes: list[str] = []
    for header in headers:
        found, said = slices_of(header)
        slices += found
        notes += said
    path = common_folder(slices)
    _check_headers(headers)
    _check_grids(slices)
    directions = check_orientation(slices[0].orientation, slices[0].header.path)
    spacing = check_spacing(slices[0].spacing, slices[0].header.path)
    positions = np.asarray([s.position for s in slices])
    chosen = split_volumes(slices, positions, np.cross(directions[0], directions[1]), volume, path)
    slices = [slices[i] for i in chosen.indices]
    names = [s.name for s in slices]
    lined = stack(positions[chosen.indices], directions, spacing, slices[0].thickness, names, path)
    slices = [slices[i] for i in lined.order]
    _check_values(slices, path)
    hide = hiding(header.path for header in headers)
    notes = [*map(hide, (*notes, *lined.notes)), *header_notes(slices)]
    return _scan(slices, path, lined, chosen.volume, tuple(dict.fromkeys(notes)), options)


def _scan(
    slices: Sequence[Slice],
    path: Path,
    lined: Stack,
    volume: int | None,
    notes: tuple[str, ...],
    options: ReadOptions,
) -> Scan:
    first, frame = slices[0].header, slices[0].frame
    shape = (frame.columns, frame.rows, len(slices))
    if shape[0] * shape[1] * shape[2] * 4 > options.max_bytes:
        raise ScanError(
            f"{' x '.join(map(str, shape))} voxels exceed the limit of {options.max_bytes >> 20} MiB",
            path=path,
            remedy="raise the limit (max_bytes) if the scan is real",
        )
    affine, tilt = lined.affine, None
    if lined.tilt is not None:
        if not options.resample_tilt:
            raise ScanError(
                f"sheared grid (gantry tilt): {np.hypot(*lined.tilt):.3f} mm in plane from slice to slice",
                path=path,
                remedy="use --resample-tilt to resample it onto a straight grid",
            )
        tilt, shape, affine = straight_grid(lined, shape)
        notes += ("gantry tilt: resampled linearly onto a straight grid",)
    modality = defined(first.text("Modality"), MODALITIES)
    kind = slices[0].units if modality == "CT" else first.text("Units")
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
        recipe=DicomRecipe(tuple(s.frame for s in slices), tilt),
    )


def identity(header: Header) -> str:
    """What makes a series one: its UID, or where it lies and its number."""
    return (
        header.text("SeriesInstanceUID") or f"{header.path.parent.absolute()}|{header.text('SeriesNumber')}"
    )


def describe(header: Header) -> str:
    """Series Description in its character set."""
    import pydicom.charset

    raw = header.values.get(0x0008103E, b"").strip(b" \0")
    try:
        names = pydicom.charset.convert_encodings(header.text("SpecificCharacterSet").split("\\"))
        return str(pydicom.charset.decode_bytes(raw, names, set()))
    except (LookupError, UnicodeError, ValueError):
        return raw.decode("latin-1")


def _check_headers(headers: Sequence[Header]) -> None:
    """What the files of one series must share."""
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"):
        _one([h.text(name) for h in headers], name, [h.path for h in headers])


def _check_grids(slices: Sequence[Slice]) -> None:
    """Matrix, orientation and pixel spacing are the same in each slice of one series."""
    first, paths = slices[0], [s.header.path for s in slices]
    _one([f"{s.frame.columns} x {s.frame.rows}" for s in slices], "matrix size", paths)
    for name, tolerance in (("orientation", 1e-3), ("spacing", 1e-4)):
        reference = getattr(first, name)
        for one in slices:
            values = getattr(one, name)
            if values is reference or values == reference:
                continue
            if values is None or reference is None or len(values) != len(reference):
                same = False
            else:
                same = bool(np.allclose(values, reference, atol=tolerance, rtol=1e-4))
            if not same:
                raise ScanError(
                    f"slices differ in {name}: {_list(reference)} in {first.name}, {_list(values)} in "
                    f"{one.name}",
                    path=one.header.path,
                    remedy=SEPARATE,
                )


def _check_values(slices: Sequence[Slice], path: Path) -> None:
    """Either each slice of a volume has a rescale or none; CT must have one."""
    paths = [s.header.path for s in slices]
    _one(["present" if s.rescaled else "missing" for s in slices], "Rescale Slope/Intercept", paths)
    _one([s.units for s in slices], "Rescale Type", paths)
    if slices[0].header.text("Modality") == "CT" and not slices[0].rescaled:
        raise ScanError(
            "CT without Rescale Slope and Intercept: no Hounsfield units", path=path, remedy=REPAIR
        )


def _list(values: Sequence[float] | None) -> str:
    return "missing" if values is None else "\\".join(f"{v:.6g}" for v in values)


def _one(values: Sequence[str], name: str, paths: Sequence[Path]) -> None:
    counts = Counter(values)
    if len(counts) > 1:
        common = counts.most_common()[0][0]
        odd = next(i for i, v in enumerate(values) if v != common)
        told = {"matrix size", "Rescale Slope/Intercept"}  # all else may hold a name
        shown = f"{values[odd]!r}, others have {common!r}" if name in told else "another one"
        raise ScanError(
            f"slices differ in {name}: {paths[odd].name} has {shown}", path=paths[odd], remedy=SEPARATE
        )
