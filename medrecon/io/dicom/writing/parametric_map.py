"""Maps of a reconstruction, such as its signed error, as DICOM Parametric Maps (PS3.3 A.75)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from medrecon.errors import OutputError, UsageError
from medrecon.io.derivation import Derivation
from medrecon.io.dicom.writing.provenance import code
from medrecon.io.dicom.writing.source import SourceSlice, source_slices
from medrecon.io.files.publish import IMPLEMENTATION_VERSION, publish
from medrecon.io.geometry import RAS_FROM_LPS
from medrecon.io.scan import Scan

_UNITS = {
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "BQML": Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
}
_NO_UNITS = Code("1", "UCUM", "no units")
_REGIONS = {
    "HEAD": ("69536005", "Head"),
    "BRAIN": ("12738006", "Brain"),
    "CHEST": ("816094009", "Chest"),
    "ABDOMEN": ("818981001", "Abdomen"),
    "PELVIS": ("816092008", "Pelvis"),
    "HEART": ("80891009", "Heart"),
    "PROSTATE": ("41216001", "Prostate"),
    "NECK": ("45048000", "Neck"),
    "BREAST": ("76752008", "Breast"),
}
_REQUIRED = """
    PatientID PatientName PatientBirthDate PatientSex StudyID AccessionNumber StudyDate StudyTime
    ReferringPhysicianName PositionReferenceIndicator
"""
"""What must be there, if only empty."""

_WHOLE_BODY = ("38266002", "Entire body")


@dataclass(frozen=True)
class Quantity:
    """What a map shows at each voxel, in the source's units.

    Attributes:
        name: in a word or two.
        explanation: in a few, at most 64 characters.
        signed: whether its window is centred on zero.
    """

    name: str
    explanation: str
    signed: bool


ERROR = Quantity("error", "reconstruction minus source", signed=True)
DEVIATION = Quantity("deviation", "standard deviation of generated samples", signed=False)


def write_parametric_map(
    values: np.ndarray,
    scan: Scan,
    path: str | Path,
    *,
    derivation: Derivation,
    quantity: Quantity = ERROR,
    series_offset: int = 50,
    overwrite: bool = False,
) -> Path:
    """Write a map of a reconstruction, in the source's units, as one float32 Parametric Map.

    Needs highdicom (`pip install medrecon[dicom]`). FrameAnatomySequence is added, without which dcmqi's
    reader (3D Slicer's way to read Parametric Maps) crashes.

    Args:
        values: (X, Y, Z) on the source's grid.
        scan: the DICOM source.
        path: the file.
        derivation: how the reconstruction was made.
        quantity: what the values are.
        series_offset: added to a hundred times the source's SeriesNumber.
        overwrite: replace a file that is there.

    Raises:
        UsageError: highdicom is not installed, or the source is not CT, MR or PET in DICOM.
        OutputError: the map does not fit the source, or the file cannot be written.
    """
    path = Path(path)
    if scan.format != "dicom":
        raise UsageError("a Parametric Map needs a DICOM source", path=scan.path, remedy="write NIfTI")
    if values.shape != scan.shape or not np.isfinite(values).all():
        raise OutputError(f"a map of {values.shape} does not fit {scan.shape}, or is not finite", path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the source's attributes get wrong is kept as it is
        try:
            image = _build(values, scan, derivation, quantity, series_offset)
        except (ValueError, TypeError, AttributeError) as reason:
            raise OutputError(
                f"the source's header cannot carry a Parametric Map ({reason})",
                path=scan.path,
                remedy="write NIfTI",
            ) from reason
        with publish(path, overwrite) as part:
            image.save_as(part, enforce_file_format=True)
            if pydicom.dcmread(part).FloatPixelData != image.FloatPixelData:
                raise OutputError("does not read back as it was written", path=path, remedy="check the disk")
    return path


def _build(
    values: np.ndarray, scan: Scan, derivation: Derivation, quantity: Quantity, series_offset: int
) -> Dataset:
    try:
        import highdicom as hd
    except ImportError as missing:
        raise UsageError(
            "Parametric Maps need highdicom", remedy="install it with: pip install 'medrecon[dicom]'"
        ) from missing
    slices = _completed(scan)
    values = np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)
    centre, width = _window(values, quantity)
    affine = RAS_FROM_LPS @ scan.affine
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    limits = (float(values.min()), float(values.max()))
    image = hd.pm.ParametricMap(
        source_images=[source.header for source in slices],
        pixel_array=values,
        series_instance_uid=derivation.uid(f"{quantity.name} series", scan.series_uid, str(scan.volume)),
        series_number=int(slices[0].header.get("SeriesNumber") or 0) * 100 + series_offset,
        sop_instance_uid=derivation.uid(f"{quantity.name} image", scan.series_uid, str(scan.volume)),
        instance_number=1,
        manufacturer="medrecon",
        manufacturer_model_name=derivation.model[:64],
        software_versions=derivation.version[:64],
        device_serial_number=derivation.weights_sha256[:64] or "none",
        contains_recognizable_visual_features=slices[0].header.get("RecognizableVisualFeatures") == "YES",
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label=quantity.name,
                lut_explanation=quantity.explanation,
                unit=_UNITS.get(scan.units, _NO_UNITS),
                value_range=limits if limits[0] < limits[1] else (limits[0], limits[0] + 1.0),
                slope=1.0,
                intercept=0.0,
            )
        ],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=centre, window_width=width)],
        content_label=quantity.name.upper(),
        content_description=f"{quantity.name.capitalize()} of {derivation.name}"[:64],
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=_short(steps[[1, 0]]), slice_thickness=_short(steps[2:])[0]
        ),
        plane_orientation=hd.PlaneOrientationSequence(
            "PATIENT", [float(v) for v in (affine[:3, :2] / steps[:2]).T.ravel()]
        ),
        plane_positions=[
            hd.PlanePositionSequence("PATIENT", _short((affine @ [0, 0, k, 1])[:3]))
            for k in range(len(values))
        ],
    )
    _order(image, values, affine)
    return _mend(image, slices[0].header, derivation, quantity)


def _completed(scan: Scan) -> list[SourceSlice]:
    """The source's slices, with all that highdicom takes from their headers."""
    slices = source_slices(scan)
    if not slices[0].uid or not slices[0].header.get("FrameOfReferenceUID"):
        raise OutputError(
            "a Parametric Map needs the source's SOP Instance UIDs and Frame of Reference UID",
            path=scan.path,
            remedy="write NIfTI",
        )
    for source in slices:
        _complete(source, slices[0].header)
    return slices


def _window(values: np.ndarray, quantity: Quantity) -> tuple[float, float]:
    """Centre and width that a viewer begins with: 99 of 100 voxels of (Z, Y, X), not one that stands out."""
    most = float(np.percentile(np.abs(values[:: max(1, len(values) // 16)]), 99)) or 1.0
    return (0.0, 2 * most) if quantity.signed else (most / 2, most)


def _short(values: np.ndarray) -> list[float]:
    """Numbers that a decimal string of 16 characters can hold."""
    return [float(format_number_as_ds(round(float(value), 9) + 0.0)) for value in values]


def _order(image: Any, values: np.ndarray, affine: np.ndarray) -> None:
    """Put the frames in the order of the slices.

    highdicom may turn them round, and dcmqi then pairs positions and pixels the wrong way.
    """
    places = np.array([(affine @ [0, 0, k, 1])[:3] for k in range(len(values))])
    groups = [Dataset()] * len(values)
    for group in image.PerFrameFunctionalGroupsSequence:
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        index = int(np.argmin(np.linalg.norm(places - place, axis=1)))
        group.FrameContentSequence[0].DimensionIndexValues = index + 1
        groups[index] = group
    image.PerFrameFunctionalGroupsSequence = Sequence(groups)
    image.FloatPixelData = values.astype("<f4", copy=False).tobytes()


def _complete(source: SourceSlice, first: Dataset) -> None:
    """What highdicom asks of a source image and some scanners leave out or write loosely."""
    header = source.header
    header.SOPInstanceUID, header.SOPClassUID = source.uid, source.sop_class
    header.ImageOrientationPatient = first.ImageOrientationPatient
    character_set = header.get("SpecificCharacterSet")
    if not character_set:
        header.pop("SpecificCharacterSet", None)
    elif isinstance(character_set, str):
        header.SpecificCharacterSet = character_set.replace("ISO 2022 IR", "ISO_IR")
    for keyword in _REQUIRED.split():
        if keyword not in header:
            setattr(header, keyword, "")


def _mend(image: Any, source: Dataset, derivation: Derivation, quantity: Quantity) -> Dataset:
    """Add what readers need and highdicom leaves out."""
    part = str(source.get("BodyPartExamined") or "").upper()
    value, meaning = _REGIONS.get(part, _WHOLE_BODY)
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = Sequence([code(value, "SCT", meaning)])
    image.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = Sequence([anatomy])
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in measures:
        measures.SpacingBetweenSlices = abs(measures.SpacingBetweenSlices)
    image.ContentCreatorName = ""
    if part:
        image.BodyPartExamined = part
    if not image.get("Laterality"):  # FrameLaterality says it
        image.pop("Laterality", None)
    title = "" if derivation.drawn is not None else f": {quantity.name}"
    image.SeriesDescription = f"medrecon {derivation.name}{title}"[:64]
    said = f"{quantity.explanation[0].upper()}{quantity.explanation[1:]}"
    image.DerivationDescription = f"{said}. {derivation.description}"[:1024]
    image.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    image.preamble = b"\0" * 128
    return image
