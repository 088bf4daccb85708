"""Sequences that say where a derived image comes from and what made it."""

from __future__ import annotations

from datetime import datetime

from pydicom import Dataset
from pydicom.sequence import Sequence

from medrecon.io.derivation import Derivation
from medrecon.io.dicom.writing.source import SourceSlice

SCHEME = "99MEDRECON"
"""Of our own codes, by which a series that medrecon derived is known."""


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """One coded concept (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def derivation_codes(derivation: Derivation, *, resampled: bool) -> list[Dataset]:
    """Derivation codes: CID 7203 has none for a feature reconstruction, so ours stands beside the nearest."""
    if derivation.layers == "input":
        codes = [code("IDENTITY", SCHEME, "Identity control")]
    else:
        codes = [code("FEATURE_RECON", SCHEME, "Feature reconstruction")]
    if derivation.drawn is not None:
        codes.append(code("GENERATED", SCHEME, "Drawn by a generative decoder"))
    if derivation.lossy:
        codes.append(code("113040", "DCM", "Lossy Compression"))
    if resampled:
        codes.append(code("113085", "DCM", "Spatial resampling"))
    return codes


def source_references(source: SourceSlice, series: str, *, same_grid: bool) -> tuple[Sequence, Sequence]:
    """SourceImageSequence and ReferencedSeriesSequence of one image (PS3.3 C.7.6.1.1.4, C.12.2)."""
    image, plain = Dataset(), Dataset()
    for item in (image, plain):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class, source.uid
        if source.frame:
            item.ReferencedFrameNumber = str(source.frame)
    image.SpatialLocationsPreserved = "YES" if same_grid else "NO"
    image.PurposeOfReferenceCodeSequence = Sequence(
        [code("121322", "DCM", "Source image for image processing operation")]
    )
    reference = Dataset()
    reference.SeriesInstanceUID = series
    reference.ReferencedInstanceSequence = Sequence([plain])
    return Sequence([image]), Sequence([reference] if series else [])


def contributing_equipment(derivation: Derivation, now: datetime) -> Dataset:
    """Who made it (PS3.3 C.12.1.1.5): the model, its weights' hash, its layers, the version."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([code("109102", "DCM", "Processing Equipment")])
    item.Manufacturer = "medrecon"
    item.ManufacturerModelName = _short(derivation.model)
    versions = [_short(f"medrecon {derivation.version}")]
    if derivation.weights_sha256:
        versions.append(f"weights {derivation.weights_sha256[:16]}")
    item.SoftwareVersions = versions
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S%z")
    drawn = f"; {derivation.drawn.which}: {derivation.drawn.words}" if derivation.drawn is not None else ""
    item.ContributionDescription = (
        f"weights sha256 {derivation.weights_sha256 or 'none'}; layers {derivation.layers}{drawn}"
    )[:1024].replace("\\", "/")
    return item


def _short(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")[:64]
