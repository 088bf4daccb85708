"""The attributes of a source header in the form in which a derived image carries them.

Explicit, little endian, in the value representation of the data dictionary; texts keep their bytes. They
come from the same walk over the file as what is read of it. What cannot be had in this form is left out, and
named: no odd attribute of a source stops its derived series.
"""

from __future__ import annotations

import contextlib
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from medrecon.io.dicom.reading.elements import LONG, SHORT, Window, skip_sequence
from medrecon.io.dicom.reading.parsing import read_attributes
from medrecon.io.dicom.reading.texts import encodings
from medrecon.io.dicom.writing.modules import KEPT

PATIENT = (0x0010, 0x0012)
"""Whole groups that are kept: retired attributes too must agree within a patient."""
_USED = """
    SOPClassUID SOPInstanceUID ImageType SeriesInstanceUID SeriesNumber SeriesDescription
    DerivationDescription DerivationCodeSequence ContributingEquipmentSequence RescaleIntercept RescaleSlope
    RescaleType LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod
    PhotometricInterpretation PixelPaddingValue SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence InstanceNumber Rows Columns SamplesPerPixel BitsAllocated BitsStored
    HighBit PixelRepresentation EchoPulseSequence EffectiveEchoTime FrameType FrameLaterality
"""
USED = frozenset(tag for tag in map(tag_for_keyword, _USED.split()) if tag is not None)
"""Attributes that the derived ones are made from."""

CHARACTER_SET, BYTES_AS_THEY_ARE = 0x00080005, "ISO_IR 100"
ZONE, ZONES = 0x00080201, rb"[+-](0\d|1[0-4])[0-5]\d"
"""TimezoneOffsetFromUTC, by which the derived series tells its times, and its form (PS3.3 C.12.1.1.8)."""
MAX_DEPTH = 64
WIDTHS = {"AT": 2, "FL": 4, "FD": 8, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
WORDS = {"OB": 1, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}
Known = dict[tuple[int, bytes], DataElement | None]
"""Sequences that were looked at, by tag and bytes: slices share most of theirs."""


def carried_header(path: Path, known: Known) -> tuple[Dataset, frozenset[str]]:
    """The attributes of one file that its derived images carry, or are made from.

    Args:
        path: the file.
        known: of the files before; added to.

    Returns:
        The attributes, without pixels, and the keywords of those that cannot be carried over.

    Raises:
        ScanError: the file cannot be read, or is broken.
    """
    source, values = read_attributes(path, _is_wanted)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = UID(source.syntax)
    if source.media_class:
        header.file_meta.MediaStorageSOPClassUID = UID(source.media_class)
    lost = _set_character_set(header, values.pop(CHARACTER_SET, (b"", b""))[1])
    for tag, (vr, value) in values.items():
        try:
            header[tag] = _element(header, BaseTag(tag), vr.decode("latin-1"), value, source.order, known)
        except Exception:  # pydicom raises whatever a broken value leads to
            lost.add(keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})")
    return header, frozenset(lost)


def attempt(header: Dataset, keyword: str) -> Any:
    """The value of an attribute; None where it is missing or does not decode."""
    with contextlib.suppress(Exception):  # pydicom raises whatever a broken value leads to
        return header.get(keyword)
    return None


def whole(value: Any) -> int | None:
    """A value as a whole number; None where it is none."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return int(value)
    return None


def drop_private(items: Sequence, depth: int = 0) -> None:
    """Take private attributes out of sequence items, at each depth.

    Raises:
        ValueError: they are nested without end.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested without end")
    for item in items:
        for tag in list(item.keys()):
            if tag.is_private:
                del item[tag]
            elif item[tag].VR == "SQ":
                drop_private(item[tag].value, depth + 1)


def _is_wanted(tag: int) -> bool:
    return tag in KEPT or tag in USED or (tag >> 16 in PATIENT and tag & 0xFFFF != 0)


def _set_character_set(header: Dataset, value: bytes) -> set[str]:
    """Texts of a character set that DICOM does not know keep their bytes, declared as single ones."""
    text = value.decode("latin-1").strip(" \0")
    lost = {"SpecificCharacterSet"} if encodings(text) is None else set()
    terms = [BYTES_AS_THEY_ARE] if lost else text.split("\\")
    if any(terms):
        header.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    header.set_original_encoding(False, True, header._character_set)
    return lost


def _element(
    header: Dataset, tag: BaseTag, vr: str, value: bytes, order: str, known: Known
) -> RawDataElement | DataElement:
    """One element, ready to be written.

    Raises:
        Exception: it cannot be.
    """
    listed = dictionary_VR(tag).split(" or ") if keyword_for_tag(tag) else []
    implicit = not vr
    if vr in ("", "UN"):
        vr = listed[0] if listed else "UN"
    if listed and _sort(vr) not in {_sort(one) for one in listed}:
        raise ValueError(f"{vr} in the place of {listed}")
    if listed and _sort(vr) == "text":  # of some texts the values could not be told apart
        vr = vr if vr in listed else listed[0]
    if vr == "SQ":
        raw = RawDataElement(tag, vr, len(value), value, 0, implicit, order == "<")
        return _sequence(header, raw, known)
    if tag == ZONE and value.strip(b" \0") and not re.fullmatch(ZONES, value.strip(b" \0")):
        raise ValueError("no offset from UTC")
    width = WIDTHS.get(vr) or WORDS.get(vr, 1)
    if len(value) % width:
        raise ValueError(f"{len(value)} bytes of {vr}")
    if order == ">" and width > 1:
        value = np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()
    return RawDataElement(tag, vr, len(value), value, 0, False, True)


def _sequence(header: Dataset, element: RawDataElement, known: Known) -> DataElement:
    key = (int(element.tag), element.value or b"")
    if key not in known:
        known[key] = None
        order = "<" if element.is_little_endian else ">"
        items = key[1] + struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0)
        if skip_sequence(Window(BytesIO(items), len(items)), 0, order) != len(items):
            raise ValueError("items that do not fill the sequence")
        first = key[1][12:14]  # behind the item and a tag: the VR, if there is one
        raw = element._replace(is_implicit_VR=first not in SHORT | LONG)
        whole = convert_raw_data_element(raw, encoding=header._character_set, ds=header)
        drop_private(whole.value)
        known[key] = whole
    found = known[key]
    if found is None:
        raise ValueError("a broken sequence")
    return found


def _sort(vr: str) -> str:
    """What sort of value it is: two of one sort are read alike."""
    if vr == "SQ":
        return "sequence"
    return "numbers" if vr in WIDTHS else "bytes" if vr in WORDS else "text"
