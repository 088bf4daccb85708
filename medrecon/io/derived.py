"""The attributes of a derived image: kept, new, changed, added and dropped against its source."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import timedelta, timezone

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import format_number_as_ds

from medrecon.io.body_parts import UNPAIRED
from medrecon.io.derivation import Derivation
from medrecon.io.derived_image import write_geometry, write_pixels
from medrecon.io.dicom_source import CLASSIC, SourceSlice
from medrecon.io.modules import KEPT
from medrecon.io.provenance import contributing_equipment, derivation_codes, source_references
from medrecon.io.publish import IMPLEMENTATION_VERSION
from medrecon.io.series_plan import SeriesPlan

IMPLEMENTATION_UID = "2.25.329800735698586629295641978511506172918"
_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}
_PATIENT = (0x0010, 0x0012)  # whole groups: retired attributes too must agree within a patient
_REGION_SCHEMES = ("SCT", "SRT", "SNM3")


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
    write_pixels(header, index, plan, rescale, earlier["RescaleType"])
    if plan.geometry is not None:
        write_geometry(header, index, plan.geometry)
    _laterality(header)
    _file_meta(header)
    return header


def _laterality(header: Dataset) -> None:
    """Laterality is of type 2C: there unless the body part tells that it is no paired one (PS3.3 C.7.3.1)."""
    region = header.get("AnatomicRegionSequence") or [Dataset()]
    coded = region[0].get("CodingSchemeDesignator") in _REGION_SCHEMES
    unpaired = coded or header.get("BodyPartExamined") in UNPAIRED
    if not unpaired and "ImageLaterality" not in header and "Laterality" not in header:
        header.Laterality = ""


def _keep_allowed(header: Dataset, plan: SeriesPlan) -> None:
    for tag in list(header.keys()):
        if tag not in KEPT and (tag.group not in _PATIENT or tag.element == 0):
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
    origin = source.uid or f"{plan.source_id}/{index}"
    header.SOPClassUID = CLASSIC[source.sop_class]  # type: ignore[index]
    header.SOPInstanceUID = plan.derivation.uid("image", origin, str(source.frame), plan.volume, str(index))
    header.SeriesInstanceUID = plan.uid
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not header.get(keyword):
            setattr(header, keyword, plan.derivation.replacement_uid(keyword, plan.source_id))
            plan.replaced.add(keyword)
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
        images, series = source_references(source, plan.source_series, same_grid=plan.geometry is None)
        header.SourceImageSequence = images
        if series:
            header.ReferencedSeriesSequence = series
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


def _file_meta(header: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    header.file_meta = meta
    header.preamble = b"\0" * 128


def _zone(header: Dataset) -> timezone | None:
    text = str(header.get("TimezoneOffsetFromUTC", ""))
    if len(text) == 5 and text[0] in "+-" and text[1:].isdigit():
        minutes = int(text[1:3]) * 60 + int(text[3:])
        return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))
    return None
