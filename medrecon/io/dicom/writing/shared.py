"""The attributes that are the same in all images of a derived series: made once, then copied."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import timedelta, timezone
from io import BytesIO

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import format_number_as_ds

from medrecon.io.dicom.writing.body_parts import UNPAIRED
from medrecon.io.dicom.writing.carried import attempt, whole
from medrecon.io.dicom.writing.plan import SeriesPlan
from medrecon.io.dicom.writing.provenance import contributing_equipment, derivation_codes
from medrecon.io.dicom.writing.source import CLASSIC, SourceSlice

_DEPENDS_ON = """
    SeriesNumber SeriesDescription StudyInstanceUID FrameOfReferenceUID Modality TimezoneOffsetFromUTC
    DerivationDescription DerivationCodeSequence ContributingEquipmentSequence RescaleType
    LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod BodyPartExamined
    AnatomicRegionSequence ImageLaterality Laterality SpecificCharacterSet
"""
DEPENDS_ON = tuple(map(Tag, _DEPENDS_ON.split()))
"""What the shared attributes are made from; where it changes within a series they are made again."""

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
_PADDING = Tag("PixelPaddingValue")
_REGION_SCHEMES = ("SCT", "SRT", "SNM3")


def shared_elements(
    header: Dataset, source: SourceSlice, plan: SeriesPlan
) -> list[RawDataElement | DataElement]:
    """New, changed and added attributes that do not depend on the slice, encoded for writing.

    Args:
        header: the source's header, whole.
        source: where it comes from.
        plan: what the series shares.
    """
    new = Dataset()
    if "SpecificCharacterSet" in header:
        new["SpecificCharacterSet"] = header["SpecificCharacterSet"]
    _series(new, header, source, plan)
    _provenance(new, header, source, plan)
    _pixel_module(new, header, plan)
    _laterality(new, header)
    return list(_raw(new))


def _raw(new: Dataset) -> Iterable[RawDataElement | DataElement]:
    """The elements as bytes: copying them into each image costs nothing then."""
    stream = BytesIO()
    buffer = DicomIO(stream)
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, new)
    stream.seek(0)
    back = read_dataset(stream, is_implicit_VR=False, is_little_endian=True)
    return list(map(back.get_item, list(back.keys())))


def _series(new: Dataset, header: Dataset, source: SourceSlice, plan: SeriesPlan) -> None:
    new.SOPClassUID = CLASSIC[source.sop_class]  # type: ignore[index]
    new.SeriesInstanceUID = plan.uid
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not header.get(keyword):
            setattr(new, keyword, plan.derivation.replacement_uid(keyword, plan.source_id))
            plan.replaced.add(keyword)
    number = (whole(attempt(header, "SeriesNumber") or 0) or 0) * 100 + plan.offset
    new.SeriesNumber = str(number if abs(number) < 2**31 else 9000 + plan.offset)
    if not plan.description:  # the same in each slice, whatever character set each declares
        text = str(header.get("SeriesDescription") or "")
        plan.description = _description(plan.derivation.name, text)
    new.SeriesDescription = plan.description
    if not plan.image_type:  # the same in each slice, whatever the source says in each
        values = _listed(header.get("ImageType"))
        second = "PRIMARY" if header.get("Modality") == "PT" else "SECONDARY"
        rest = values[2:] or ["OTHER"] * (header.get("Modality") != "PT")
        plan.image_type = ("DERIVED", second, *rest)
    new.ImageType = list(plan.image_type)
    now = plan.now.astimezone(_zone(header))
    for kind in ("Series", "Content", "InstanceCreation"):
        setattr(new, f"{kind}Date", now.strftime("%Y%m%d"))
        setattr(new, f"{kind}Time", now.strftime("%H%M%S"))


def _description(name: str, source: str) -> str:
    plain = unicodedata.normalize("NFKD", source).encode("ascii", "ignore").decode("ascii")
    text = f"medrecon {name}: {plain}".replace("\\", "/")
    return "".join(c for c in text if c.isprintable())[:64].rstrip(" :")


def _zone(header: Dataset) -> timezone | None:
    text = str(header.get("TimezoneOffsetFromUTC") or "")
    if not text:
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def _provenance(new: Dataset, header: Dataset, source: SourceSlice, plan: SeriesPlan) -> None:
    derivation = plan.derivation
    text = derivation.description
    if plan.encoded.clipped:
        text += f" {plan.encoded.clipped} voxels clipped."
    if source.frame:
        text += " Single-frame images from an enhanced multi-frame source."
    if header.get("DerivationDescription"):
        text += f" Source: {header.DerivationDescription}"
    new.DerivationDescription = text[:1024]
    codes = derivation_codes(derivation, resampled=plan.geometry is not None)
    new.DerivationCodeSequence = Sequence([*_earlier(header, "DerivationCodeSequence"), *codes])
    equipment = contributing_equipment(derivation, plan.now)
    new.ContributingEquipmentSequence = Sequence(
        [*_earlier(header, "ContributingEquipmentSequence"), equipment]
    )
    if plan.synthetic:
        new.SyntheticData = plan.synthetic
    was_lossy = header.get("LossyImageCompression") == "01"
    syntax = header.get("file_meta", Dataset()).get("TransferSyntaxUID")
    if derivation.lossy or was_lossy or syntax in _LOSSY:
        _lossy(new, header, plan)


def _earlier(header: Dataset, keyword: str) -> list[Dataset]:
    return list(header.get(keyword) or Sequence())


def _lossy(new: Dataset, header: Dataset, plan: SeriesPlan) -> None:
    """What was lost stays lost: earlier ratios and methods are kept, ours is added (PS3.3 C.7.6.1.1.5)."""
    new.LossyImageCompression = "01"
    ratios = _listed(attempt(header, "LossyImageCompressionRatio"))
    methods = _listed(header.get("LossyImageCompressionMethod"))
    if plan.derivation.ratio is not None:
        ratios = [*ratios, format_number_as_ds(round(plan.derivation.ratio, 4))]
        methods = [*methods, "MEDRECON"] if methods else []
    if ratios:
        new.LossyImageCompressionRatio = ratios
    if methods:
        new.LossyImageCompressionMethod = methods


def _listed(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [str(value)]
    return [str(v) for v in value]


def _pixel_module(new: Dataset, header: Dataset, plan: SeriesPlan) -> None:
    """The Image Pixel module (PS3.3 C.7.6.3) but for the pixels."""
    form = plan.encoded.form
    new.SamplesPerPixel = 1
    new.PhotometricInterpretation = plan.photometric
    new.Rows, new.Columns = plan.encoded.stored.shape[1:]
    new.BitsAllocated, new.BitsStored, new.HighBit = 16, form.bits, form.bits - 1
    new.PixelRepresentation = int(form.signed)
    if header.get("RescaleType"):
        new.RescaleType = header.RescaleType
    if plan.padding is not None:
        new.add(DataElement(_PADDING, "SS" if form.signed else "US", plan.padding))


def _laterality(new: Dataset, header: Dataset) -> None:
    """Laterality is of type 2C: there unless the body part tells that it is no paired one (PS3.3 C.7.3.1)."""
    region = header.get("AnatomicRegionSequence") or [Dataset()]
    coded = region[0].get("CodingSchemeDesignator") in _REGION_SCHEMES
    unpaired = coded or str(header.get("BodyPartExamined")) in UNPAIRED
    if not unpaired and "ImageLaterality" not in header and "Laterality" not in header:
        new.Laterality = ""
