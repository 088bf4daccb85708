"""Where the pixels of each slice are, and what their header says of them (PS3.3 C.7.6.3, C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrecon.io.dicom.reading.header import MODALITY_LUT, NATIVE, REPAIR, UNDEFINED, Header
from medrecon.io.files.inflate import FREE_BYTES, MAX_RATIO
from medrecon.io.scan import ReadOptions, ScanError, or_accept

MAX_SIDE = 1 << 15
PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice's pixels.

    Attributes:
        path: the file; `size` and `mtime_ns` are what it had when its header was read.
        syntax: Transfer Syntax UID.
        order: byte order, "<" or ">".
        index: which frame of the file, of `count`.
        offset: start of the pixel value; `length` its declared bytes or `UNDEFINED` (encapsulated).
        rows: number of rows; `columns` likewise.
        allocated: Bits Allocated; `stored` Bits Stored; `signed` Pixel Representation.
        slope: of the rescale, as `intercept`.
        any_bits: whether to take the lowest bits where a compressed image has more than are stored.
    """

    path: Path
    size: int
    mtime_ns: int
    syntax: str
    order: str
    index: int
    count: int
    offset: int
    length: int
    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    slope: float = 1.0
    intercept: float = 0.0
    any_bits: bool = False


def first_frame(header: Header, options: ReadOptions) -> tuple[Frame, list[str]]:
    """The pixels of a file as its header describes them, and what must be said.

    Args:
        header: of the file.
        options: what the user allows.

    Raises:
        ScanError: attributes missing or absurd, colour, unknown encodings, sizes that do not fit the file.
    """
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if not rows or not columns:
        raise _refuse(header, "Rows or Columns are missing or zero")
    samples = header.integer("SamplesPerPixel")
    colour = header.text("PhotometricInterpretation") or "MONOCHROME2"
    if samples not in (None, 1) or not colour.startswith("MONOCHROME"):
        raise ScanError(
            f"colour image ({colour}, {samples} samples per pixel)",
            path=header.path,
            remedy="medrecon reads scans with one value per voxel",
        )
    if header.pixel_tag != PIXEL_DATA and header.pixel_tag:
        raise ScanError(
            "holds Float Pixel Data, which no CT, MR or PET image may",
            path=header.path,
            remedy="convert it to NIfTI",
        )
    allocated, stored, signed, notes = _bits(header, options)
    count = header.frames
    excess = _check_size(header, rows, columns, allocated, count)
    if excess > 0:
        notes.append(f"{header.path.name}: {excess} bytes too many in Pixel Data, ignored")
    slope, intercept = _scaling(header, stored, options)
    return (
        Frame(
            header.path,
            header.size,
            header.mtime_ns,
            header.syntax,
            header.order,
            0,
            count,
            header.pixel_offset,
            header.pixel_length,
            rows,
            columns,
            allocated,
            stored,
            signed,
            slope,
            intercept,
            options.accepts("bits"),
        ),
        notes,
    )


def _bits(header: Header, options: ReadOptions) -> tuple[int, int, bool, list[str]]:
    """Bits Allocated and Stored, whether values are signed, and what must be said.

    Raises:
        ScanError: missing, contradicting or not supported.
    """
    allocated = header.integer("BitsAllocated") or 0
    stored = header.integer("BitsStored") or allocated
    high, sign = header.integer("HighBit"), header.integer("PixelRepresentation")
    said = f"Bits Allocated {allocated}, Bits Stored {stored}, High Bit {high}"
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or sign not in (None, 0, 1):
        raise _refuse(header, f"{said}, Pixel Representation {sign}: not supported")
    odd = []
    if high not in (None, stored - 1):
        odd.append(said)
    if sign is None:
        odd.append("Pixel Representation is missing")
    if odd and not options.accepts("bits"):
        raise _refuse(header, "; ".join(odd), or_accept("bits"))
    notes = [f"{one}: the lowest {stored} bits are read, {'' if sign else 'un'}signed" for one in odd]
    return allocated, stored, bool(sign), notes


def _scaling(header: Header, stored: int, options: ReadOptions) -> tuple[float, float]:
    """Slope and intercept of the rescale; 1 and 0 where values are read as they are stored.

    Raises:
        ScanError: the rescale is a table, or values would be lost by it.
    """
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    table = MODALITY_LUT in header.seen
    if (table or slope == 0) and options.accepts("no-rescale"):
        return 1.0, 0.0
    if table:
        why = "values go through a Modality LUT, which cannot be kept in a derived series"
        raise _refuse(header, why, or_accept("no-rescale"))
    check_rescale(slope, intercept, stored, header.path)
    return 1.0 if slope is None else slope, intercept or 0.0


def check_rescale(
    slope: float | None, intercept: float | None, stored: int, path: Path, where: str = ""
) -> None:
    """Refuse a rescale under which stored values that differ become the same, or no number.

    Where both are whole the results are whole; else floats of 24 bits, or of 53 for more than 16 stored bits.

    Args:
        slope: Rescale Slope, None where it is missing.
        intercept: Rescale Intercept, likewise.
        stored: Bits Stored.
        path: the file.
        where: what of the file, for the message: " in frame 3".

    Raises:
        ScanError: values would be lost.
    """
    step, shift = 1.0 if slope is None else abs(slope), abs(intercept or 0.0)
    whole = step.is_integer() and shift.is_integer()
    exact = whole or shift <= step * 2 ** (23 if stored <= 16 else 52)
    if not (1e-30 <= step <= 1e12 and shift <= 1e15 and exact):
        raise ScanError(
            f"Rescale Slope {slope}, Rescale Intercept {intercept}{where}: values would be lost",
            path=path,
            remedy=REPAIR + (or_accept("no-rescale") if slope == 0 else ""),
        )


def _check_size(header: Header, rows: int, columns: int, allocated: int, count: int) -> int:
    """Compare what the header promises with what the file holds; how many bytes there are too many."""
    need = rows * columns * count * allocated // 8
    if max(rows, columns) > MAX_SIDE:
        raise _refuse(header, f"a matrix of {columns} x {rows} is absurd")
    if header.syntax not in NATIVE:
        if header.pixel_length != UNDEFINED:
            raise _refuse(header, "compressed pixel data without fragments")
        most = (
            max(1 << 22, 2000 * header.available)
            if count == 1
            else max(FREE_BYTES, MAX_RATIO * header.available)
        )
        if header.available < 16 or need > most:
            raise _refuse(header, f"{header.available} bytes of compressed data for {need} bytes of pixels")
        return 0
    if header.pixel_length == UNDEFINED:
        raise _refuse(header, "uncompressed pixel data of undefined length")
    if header.available < min(need, header.pixel_length) or header.pixel_length > header.available:
        raise _refuse(
            header,
            f"cut short: {header.available} bytes of pixel data are there, {header.pixel_length} are "
            f"announced and {need} are needed",
        )
    if header.pixel_length < need or header.pixel_length >= 2 * need + 2:
        raise _refuse(
            header, f"Pixel Data has {header.pixel_length} bytes, {columns} x {rows} x {count} need {need}"
        )
    return header.pixel_length - need - need % 2


def _refuse(header: Header, message: str, accept: str = "") -> ScanError:
    return ScanError(message, path=header.path, remedy=REPAIR + accept)
