"""The attributes of a derived image: kept, new, changed, added and dropped against its source."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import format_number_as_ds

from medrecon.io.derivation import Derivation
from medrecon.io.dicom_source import CLASSIC, SourceSlice
from medrecon.io.encoding import Encoded
from medrecon.io.modules import KEPT
from medrecon.io.provenance import contributing_equipment, derivation_codes, source_references
from medrecon.io.publish import IMPLEMENTATION_VERSION

IMPLEMENTATION_UID = "2.25.329800735698586629295641978511506172918"
_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}
_PLAIN = Tag("PixelPaddingValue")


@dataclass
class SeriesPlan:
    """What all images of one derived series share.

    Attributes:
        derivation: how the result came to be.
        source_series: SeriesInstanceUID of the source.
        volume: which volume of the source, "" where there is only one.
        offset: added to a hundred times the source's SeriesNumber.
        encoded: the pixels.
        padding: stored value of PixelPaddingValue that still holds, None to leave it out.
        geometry: (4, 4) LPS affine where the grid is not the source's, else None.
        synthetic: value of SyntheticData, "" to leave it out.
        photometric: as in the source, since values are written as they were stored.
    """

    derivation: Derivation
    source_series: str
    volume: str
    offset: int
    encoded: Encoded
    padding: int | None = None
    geometry: np.ndarray | None = None
    synthetic: str = ""
    photometric: str = "MONOCHROME2"
    now: datetime = field(default_factory=lambda: _now())
    _clean: dict[tuple[int, bytes], DataElement] = field(default_factory=dict)
    _image_type: list[str] = field(default_factory=list)

    @property
    def uid(self) -> UID:
        """SeriesInstanceUID: one for each source series, volume and derivation."""
        return self.derivation.uid("series", self.source_series, self.volume)


def derive(source: SourceSlice, index: int, plan: SeriesPlan) -> Dataset:
    """Turn a source header into the data set of the derived image, pixels included.

    Args:
        source: the slice; its header is changed and returned.
        index: place along the stack, from 0.
        plan: what the series shares.
    """
    header = source.header
    lossy_source = header.get("LossyImageCompression") == "01" or (
        hasattr(header, "file_meta") and header.file_meta.get("TransferSyntaxUID") in _LOSSY
    )
    old = {
        key: header.get(key)
        for key in ("SeriesNumber", "SeriesDescription", "DerivationDescription", "ImageType")
    }
    earlier = {
        key: header[key].value if key in header else None
        for key in (
            "ContributingEquipmentSequence",
            "DerivationCodeSequence",
            "LossyImageCompressionRatio",
            "LossyImageCompressionMethod",
            "RescaleType",
        )
    }
    rescale = [header.get_item(key) for key in ("RescaleIntercept", "RescaleSlope") if key in header]
    _keep_allowed(header, plan)
    _identify(header, source, index, plan, old)
    _provenance(header, source, plan, old, earlier, lossy_source)
    _pixels(header, index, plan, rescale, earlier["RescaleType"])
    if plan.geometry is not None:
        _geometry(header, index, plan.geometry)
    if "BodyPartExamined" not in header and "ImageLaterality" not in header and "Laterality" not in header:
        header.Laterality = ""
    _file_meta(header)
    return header


def _keep_allowed(header: Dataset, plan: SeriesPlan) -> None:
    for tag in list(header.keys()):
        if tag not in KEPT:
            del header[tag]
            continue
        item = header.get_item(tag)
        if item.VR == "SQ" or (item.VR is None and header[tag].VR == "SQ"):
            raw = item.value if isinstance(item.value, bytes) else b""
            known = plan._clean.get((tag, raw)) if raw else None
            if known is None:
                known = header[tag]
                _drop_private(known.value)
                if raw:
                    plan._clean[tag, raw] = known
            header[tag] = known


def _drop_private(items: Sequence) -> None:
    for item in items:
        for tag in list(item.keys()):
            if tag.is_private:
                del item[tag]
            elif item[tag].VR == "SQ":
                _drop_private(item[tag].value)


def _identify(header: Dataset, source: SourceSlice, index: int, plan: SeriesPlan, old: dict) -> None:
    origin = source.uid or f"{plan.source_series}/{index}"
    header.SOPClassUID = CLASSIC[source.sop_class]  # type: ignore[index]
    header.SOPInstanceUID = plan.derivation.uid("image", origin, str(source.frame), plan.volume, str(index))
    header.SeriesInstanceUID = plan.uid
    number = int(old["SeriesNumber"] or 0) * 100 + plan.offset
    header.SeriesNumber = str(number if abs(number) < 2**31 else 9000 + plan.offset)
    header.SeriesDescription = _description(plan.derivation.layers, str(old["SeriesDescription"] or ""))
    header.InstanceNumber = str(index + 1)
    if not plan._image_type:
        given = old["ImageType"]
        values = [given] if isinstance(given, str) else [str(v) for v in given or []]
        second = "PRIMARY" if header.get("Modality") == "PT" else "SECONDARY"
        plan._image_type += ["DERIVED", second, *(values[2:] or ["OTHER"] * (header.get("Modality") != "PT"))]
    header.ImageType = plan._image_type
    now = plan.now.astimezone(_zone(header))
    for kind in ("Series", "Content", "InstanceCreation"):
        setattr(header, f"{kind}Date", now.strftime("%Y%m%d"))
        setattr(header, f"{kind}Time", now.strftime("%H%M%S"))


def _description(layers: str, source: str) -> str:
    plain = unicodedata.normalize("NFKD", source).encode("ascii", "ignore").decode("ascii")
    text = f"medrecon {layers}: {plain}".replace("\\", "/")
    return "".join(c for c in text if c.isprintable())[:64].rstrip(" :")


def _provenance(
    header: Dataset, source: SourceSlice, plan: SeriesPlan, old: dict, earlier: dict, lossy_source: bool
) -> None:
    derivation = plan.derivation
    text = derivation.description
    if plan.encoded.clipped:
        text += f" {plan.encoded.clipped} voxels clipped."
    if source.frame:
        text += " Single-frame images from an enhanced multi-frame source."
    if old["DerivationDescription"]:
        text += f" Source: {old['DerivationDescription']}"
    header.DerivationDescription = text[:1024]
    codes = derivation_codes(derivation, resampled=plan.geometry is not None)
    header.DerivationCodeSequence = Sequence([*_cleaned(earlier["DerivationCodeSequence"]), *codes])
    if source.uid:
        header.SourceImageSequence, header.ReferencedSeriesSequence = source_references(
            source, plan.source_series, same_grid=plan.geometry is None
        )
    equipment = contributing_equipment(derivation, plan.now)
    header.ContributingEquipmentSequence = Sequence(
        [*_cleaned(earlier["ContributingEquipmentSequence"]), equipment]
    )
    if plan.synthetic:
        header.SyntheticData = plan.synthetic
    if derivation.lossy or lossy_source:
        _lossy(header, derivation, earlier)


def _cleaned(items: Sequence | None) -> list[Dataset]:
    items = items or Sequence()
    _drop_private(items)
    return list(items)


def _lossy(header: Dataset, derivation: Derivation, earlier: dict) -> None:
    """What was lost stays lost: earlier ratios and methods are kept, ours is added (PS3.3 C.7.6.1.1.5)."""
    header.LossyImageCompression = "01"
    ratios = _listed(earlier["LossyImageCompressionRatio"])
    methods = _listed(earlier["LossyImageCompressionMethod"])
    if derivation.ratio is not None:
        ratios = [*ratios, format_number_as_ds(round(derivation.ratio, 4))]
        methods = [*methods, "MEDRECON"] if methods else []
    if ratios:
        header.LossyImageCompressionRatio = ratios
    if methods:
        header.LossyImageCompressionMethod = methods


def _listed(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [str(value)]
    return [str(v) for v in value]


def _pixels(header: Dataset, index: int, plan: SeriesPlan, rescale: list, rescale_type: object) -> None:
    encoded = plan.encoded
    form = encoded.form
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = plan.photometric
    header.Rows, header.Columns = encoded.stored.shape[1:]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, form.bits, form.bits - 1
    header.PixelRepresentation = int(form.signed)
    slope, intercept = float(form.slopes[index]), float(form.intercepts[index])
    if encoded.as_source:
        for element in rescale:
            header[element.tag] = element
    elif header.get("Modality") in ("CT", "PT") or slope != 1:
        header.RescaleIntercept = format_number_as_ds(intercept)
        header.RescaleSlope = format_number_as_ds(slope)
    if rescale_type and "RescaleSlope" in header:
        header.RescaleType = rescale_type
    if plan.padding is not None:
        header.add(DataElement(_PLAIN, "SS" if form.signed else "US", plan.padding))
    little = encoded.stored[index].astype("<i2" if form.signed else "<u2", copy=False)
    header.add(DataElement(0x7FE00010, "OW", little.tobytes()))


def _geometry(header: Dataset, index: int, affine: np.ndarray) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    position = (affine @ [0, 0, index, 1])[:3]
    normal = affine[:3, 2] / spacing[2]

    def ds(values: np.ndarray) -> list[str]:
        return [format_number_as_ds(round(float(v), 9) + 0.0) for v in values]

    header.ImagePositionPatient = ds(position)
    header.ImageOrientationPatient = ds((affine[:3, :2] / spacing[:2]).T.ravel())
    header.PixelSpacing = ds(spacing[[1, 0]])
    header.SliceThickness = header.SpacingBetweenSlices = ds(spacing[2:])[0]
    header.SliceLocation = ds(np.array([position @ normal]))[0]


def _file_meta(header: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    header.file_meta = meta
    header.preamble = b"\0" * 128


def _now() -> datetime:
    """The time; SOURCE_DATE_EPOCH fixes it, so that the same run can give the same bytes."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return (
        datetime.fromtimestamp(int(fixed), timezone.utc) if fixed.isdigit() else datetime.now().astimezone()
    )


def _zone(header: Dataset) -> timezone | None:
    text = str(header.get("TimezoneOffsetFromUTC", ""))
    if len(text) == 5 and text[0] in "+-" and text[1:].isdigit():
        minutes = int(text[1:3]) * 60 + int(text[3:])
        return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))
    return None
