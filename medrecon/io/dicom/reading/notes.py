"""What must be said of a series that can be read."""

from __future__ import annotations

from collections.abc import Sequence

from medrecon.io.dicom.reading.header import Header
from medrecon.io.dicom.reading.slices import Slice
from medrecon.io.dicom.reading.texts import encodings

TEXTS = (("PatientName", 0x00100010), ("SeriesDescription", 0x0008103E), ("StudyDescription", 0x00081030))


def header_notes(slices: Sequence[Slice]) -> list[str]:
    """One line for each thing that a user should know; no patient's data in them."""
    first, notes = slices[0].header, []
    try:
        announced = first.number("ImagesInAcquisition")
    except ValueError:
        announced = None
    if announced is not None and announced > len(slices):
        notes.append(f"Images in Acquisition says {announced:g}, {len(slices)} slices are there")
    if first.text("PhotometricInterpretation") == "MONOCHROME1":
        notes.append("MONOCHROME1: low values are shown bright; values are read as stored")
    if len(slices) == 1 and slices[0].thickness:
        notes.append("a single slice: its Slice Thickness stands in for the slice distance")
    return notes + undecodable(first)


def undecodable(header: Header) -> list[str]:
    """Texts that are not in the character set that the header declares (PS3.5 section 6.1)."""
    names = encodings(header.text("SpecificCharacterSet"))
    if names is None:
        return ["unknown Specific Character Set: texts may be misread"]
    notes = []
    for name, tag in TEXTS:
        raw = header.values.get(tag, b"")
        try:
            if raw.isascii() or len(names) > 1 or b"\x1b" in raw:
                continue
            if "\ufffd" in raw.decode(names[0]):
                notes.append(f"{name} holds replacement characters: it was damaged by a wrong conversion")
        except UnicodeDecodeError:
            notes.append(f"{name} is not in the declared character set: its bytes are kept")
    return notes
