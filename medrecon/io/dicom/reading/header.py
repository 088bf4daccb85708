"""The header of one DICOM file: the attributes that finding and checking need, and where its pixels are.

Only these attributes are kept, as raw bytes (`parsing` reads them, without pydicom's objects).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.tag import Tag

from medrecon.io.scan import ScanError

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset((IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN))
UNDEFINED = 0xFFFFFFFF
REPAIR = "export the series again from the PACS or the scanner"

_KEYWORDS = (
    "SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID AcquisitionDate AcquisitionDateTime "
    "AcquisitionTime ContentTime Modality StudyDescription SeriesDescription ComplexImageComponent "
    "PatientName PatientID BodyPartExamined SliceThickness EchoTime InversionTime EchoNumbers "
    "SpacingBetweenSlices TriggerTime ImagerPixelSpacing DiffusionBValue DiffusionGradientOrientation "
    "StudyInstanceUID SeriesInstanceUID SeriesNumber AcquisitionNumber InstanceNumber ImagePositionPatient "
    "ImageOrientationPatient FrameOfReferenceUID TemporalPositionIdentifier ImagesInAcquisition "
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns PixelSpacing "
    "BitsAllocated BitsStored HighBit PixelRepresentation RescaleIntercept RescaleSlope RescaleType Units"
)
WANTED = {name: int(Tag(name)) for name in _KEYWORDS.split()}
PER_FRAME = 0x52009230
MODALITY_LUT = 0x00283000


@dataclass(slots=True)
class Header:
    """What one DICOM file says of itself.

    Attributes:
        path: the file.
        size: its length in bytes.
        mtime_ns: when it was changed last: read again at decoding, a changed file is refused.
        syntax: Transfer Syntax UID.
        media_class: Media Storage SOP Class UID of the file meta information, "" without it.
        order: "<" or ">".
        values: tag -> raw value, of the wanted attributes that are there.
        seen: (offset, length) of sequences that matter (functional groups, modality LUT).
        pixel_tag: 0x7FE00010 (or the float variants), 0 without pixels.
        pixel_offset: where the pixel value starts (in the inflated stream for the deflated syntax).
        pixel_length: its declared length, `UNDEFINED` when encapsulated.
        available: bytes there are from `pixel_offset` to the end.
        notes: oddities that must be said.
        fault: why the header could be read only in part; "" for a whole one.
    """

    path: Path
    size: int
    mtime_ns: int
    syntax: str = EXPLICIT
    media_class: str = ""
    order: str = "<"
    values: dict[int, bytes] = field(default_factory=dict)
    seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    pixel_tag: int = 0
    pixel_offset: int = 0
    pixel_length: int = 0
    available: int = 0
    notes: tuple[str, ...] = ()
    fault: str = ""

    def refusal(self) -> ScanError:
        """The refusal of a header with a fault."""
        return ScanError(f"broken DICOM header: {self.fault}", path=self.path, remedy=REPAIR)

    def text(self, name: str) -> str:
        """The attribute as text, stripped; "" when it is missing or empty. Latin-1: ASCII survives."""
        return self.values.get(WANTED[name], b"").decode("latin-1").strip(" \0\r\n\t")

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A decimal-string attribute as numbers; None when missing or empty.

        Raises:
            ScanError: a value is not a finite number.
        """
        raw = self.text(name)
        if not raw:
            return None
        try:
            found = tuple(float(part) for part in raw.split("\\"))
        except ValueError:
            found = (math.nan,)
        if not all(map(math.isfinite, found)) or "_" in raw:
            raise ScanError(f"{name} is not a number: {raw[:40]!r}", path=self.path, remedy=REPAIR)
        return found

    def number(self, name: str) -> float | None:
        """The first value of a decimal-string attribute; None when missing."""
        found = self.numbers(name)
        return None if found is None else found[0]

    def double(self, name: str) -> tuple[float, ...] | None:
        """A binary double attribute (FD), e.g. DiffusionBValue; None when missing or odd."""
        raw = self.values.get(WANTED[name], b"")
        if not raw or len(raw) % 8:
            return None
        return struct.unpack(f"{self.order}{len(raw) // 8}d", raw)

    def integer(self, name: str) -> int | None:
        """A binary integer attribute (US, or UL where a writer used it); None when missing."""
        raw = self.values.get(WANTED[name], b"")
        if len(raw) not in (2, 4):
            return None
        return int.from_bytes(raw, "little" if self.order == "<" else "big")

    @property
    def frames(self) -> int:
        """NumberOfFrames, 1 where it is missing."""
        value = self.number("NumberOfFrames")
        if value is None:
            return 1
        if value < 1 or value != int(value):
            raise ScanError(f"Number of Frames is {value:g}", path=self.path, remedy=REPAIR)
        return int(value)
