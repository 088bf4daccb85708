"""One object without its patient's identity."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from medrecon.io.dicom.deidentify.key import Key, moved
from medrecon.io.dicom.deidentify.profile import (
    BINARY,
    DATE_VRS,
    DEVICE,
    EMPTIED,
    GONE,
    GONE_GROUPS,
    PATIENT,
    SAFE_PRIVATE,
    TEXT_VRS,
    TEXTS,
    Profile,
)
from medrecon.io.dicom.writing.instance import IMPLEMENTATION_UID
from medrecon.io.files.publish import IMPLEMENTATION_VERSION

_BINARY_VRS = frozenset(["OB", "OW", "OF", "OD", "OL", "OV", "UN"])
_IDS = {"AccessionNumber": "accession", "StudyID": "study"}
_NAMING = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "OtherPatientIDs",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "InstitutionName",
)
_WORD = re.compile(r"[^\W_]{3,}")
_COMMON = frozenset(("the", "and", "von", "van", "der", "den", "dos", "del", "hospital", "institute"))
_OLDEST = 89
_NO_DAY, _NO_TIME = "19000101", "000000"
_OF_FRAMES = {
    "ContentDate": _NO_DAY,
    "ContentTime": _NO_TIME,
    **dict.fromkeys(("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"), "REMOVED"),
}
"""What stands in the place of what an object with functional groups must have (type 1)."""

_RWV, _CONTEXT = Tag(0x0040, 0x9096), Tag(0x0040, 0x0555)
_NUMBERS = (Tag(0x0020, 0x0011), Tag(0x0020, 0x0012))  # SeriesNumber, AcquisitionNumber
_TERMS = frozenset(
    (
        *("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "VOLUME"),
        *("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"),
    )
)
"""Defined terms without which an image is not read as what it is; they stay whoever has such a name."""


class Deidentifier:
    """Maps objects of any number of patients; what it makes depends on the key and the object alone.

    Args:
        key: maps identities.
        profile: what stays.
    """

    def __init__(self, key: Key, profile: Profile) -> None:
        self._key, self._profile = key, profile

    def patient(self, source: Dataset) -> str:
        """What makes a patient one: the ID, or where it is missing the name."""
        return str(source.get("PatientID") or "") or str(source.get("PatientName") or "")

    def uid(self, value: str) -> str:
        """The UID in the place of another."""
        return self._key.uid(value)

    def suits(self, header: Dataset) -> bool:
        """Whether an object was made with this profile."""
        items = header.get("DeidentificationMethodCodeSequence") or []
        return [str(item.get("CodeValue", "")) for item in items] == [code for code, _ in self._profile.codes]

    def map(self, source: Dataset) -> Dataset:
        """A new object, with the source's pixels.

        Args:
            source: as read from its file, with file meta information.
        """
        patient = self.patient(source)
        told = _names_of(source)
        made = self._mapped(source, self._key.days(patient), told, top=True)
        made.PatientName = made.PatientID = self._key.code("patient", patient)
        for keyword, kind in _IDS.items():
            if keyword in source:
                setattr(made, keyword, self._key.code(kind, str(source.get(keyword) or "")))
        if "SharedFunctionalGroupsSequence" in source or "PerFrameFunctionalGroupsSequence" in source:
            for keyword, dummy in _OF_FRAMES.items():
                if source.get(keyword) and not made.get(keyword):
                    setattr(made, keyword, dummy)
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = "medrecon: PS3.15 basic profile, keyed"
        made.DeidentificationMethodCodeSequence = Sequence(
            [_code(value, meaning) for value, meaning in self._profile.codes]
        )
        kept = "dates" in self._profile.keep
        made.LongitudinalTemporalInformationModified = "MODIFIED" if kept else "REMOVED"
        made.file_meta = FileMetaDataset()
        made.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
        made.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
        made.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
        made.preamble = bytes(128)
        return made

    def _mapped(self, source: Dataset, days: int, told: frozenset[str], *, top: bool) -> Dataset:
        made = Dataset()
        for tag in sorted(source.keys()):
            if tag.is_private:
                self._private(source, made, tag)
                continue
            curve_or_overlay = tag.group >> 8 in (0x50, 0x60)  # 52xx holds the frames of enhanced images
            if tag in GONE or tag.group in GONE_GROUPS or curve_or_overlay or tag.element == 0:
                continue
            if top and tag == _CONTEXT:
                made.add(DataElement(tag, "SQ", Sequence()))
                continue
            if top and tag.group == 0x0040 and tag != _RWV:
                continue
            element = source[tag]
            kept = self._element(element, days, told)
            if kept is not None:
                made.add(kept)
            elif tag in EMPTIED and top:
                made.add(DataElement(tag, element.VR, ""))
        return made

    def _element(self, element: DataElement, days: int, told: frozenset[str]) -> DataElement | None:
        """What stays of an element; None for nothing."""
        tag, vr = element.tag, element.VR
        keep = self._profile.keep
        if vr == "SQ":
            items = [self._mapped(item, days, told, top=False) for item in element.value]
            return DataElement(tag, "SQ", Sequence([item for item in items if len(item)]))
        if tag in PATIENT:
            return _aged(element) if "patient" in keep and not _names(element, told) else None
        if tag.group == 0x0010:
            return None
        if vr == "UI":
            return DataElement(tag, "UI", _each(element.value, self._key.uid))
        if vr in DATE_VRS:
            return self._date(element, days)
        if tag in DEVICE:
            return element if "device" in keep and not _names(element, told) else None
        if vr in TEXT_VRS:
            return element if tag in TEXTS and not _names(element, told) else None
        if vr == "CS":
            values = element.value if isinstance(element.value, (MultiValue, list)) else [element.value]
            other = [value for value in map(str, values) if value not in _TERMS]
            return None if _names(DataElement(tag, "LT", " ".join(other)), told) else element
        if vr in _BINARY_VRS:
            return element if tag in BINARY else None
        if tag in _NUMBERS and str(element.value) in told:
            return DataElement(tag, "IS", "")
        return element

    def _date(self, element: DataElement, days: int) -> DataElement | None:
        vr = element.VR
        if "dates" in self._profile.keep:
            if vr == "TM":
                return element
            return DataElement(element.tag, vr, _each(element.value, lambda text: moved(text, days)))
        if vr == "DT":  # some are of type 1
            return DataElement(element.tag, vr, _NO_DAY + _NO_TIME)
        return None

    def _private(self, source: Dataset, made: Dataset, tag: BaseTag) -> None:
        creator = str(source.get(Tag(tag.group, tag.element >> 8), DataElement(0, "LO", "")).value)
        if (creator.strip(), tag.group, tag.element & 0xFF) not in SAFE_PRIVATE:
            return
        element = source[tag]
        if element.VR in ("IS", "DS", "FD", "FL", "US", "SS", "UL", "SL"):
            made.private_block(tag.group, creator, create=True).add_new(
                tag.element & 0xFF, element.VR, element.value
            )


def _names_of(source: Dataset) -> frozenset[str]:
    """Words of a header that name the patient or who treated them, in small letters."""
    words: set[str] = set()
    for keyword in _NAMING:
        value = source.get(keyword)
        for text in map(str, value if isinstance(value, (MultiValue, list)) else [value or ""]):
            words |= {word.lower() for word in _WORD.findall(text)} - _COMMON
    return frozenset(words)


def _names(element: DataElement, told: Iterable[str]) -> bool:
    """Whether a text holds one of these words."""
    text = str(element.value).lower()
    return any(word in text for word in told)


def _each(value: object, change: object) -> object:
    if isinstance(value, (MultiValue, list)):
        return [change(str(one)) for one in value]  # type: ignore[operator]
    return change(str(value)) if value else ""  # type: ignore[operator]


def _aged(element: DataElement) -> DataElement:
    """Who is older than 89 is one of few: all of them are 90."""
    text = str(element.value or "")
    if element.VR == "AS" and re.fullmatch(r"\d{3}Y", text) and int(text[:3]) > _OLDEST:
        return DataElement(element.tag, "AS", "090Y")
    return element


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
