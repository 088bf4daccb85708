"""Walk over the elements of a DICOM data set by their lengths (PS3.5 section 7), without recursion."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

UNDEFINED = 0xFFFFFFFF
CHUNK = 1 << 14
MAX_DEPTH = 64
MAX_ELEMENTS = 3_000_000

LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH")
) | frozenset((b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"))
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))


class HeaderFault(Exception):
    """The elements cannot be walked."""


class Stream(Protocol):
    """What a window reads from."""

    def read(self, count: int, /) -> bytes | None:
        """The next `count` bytes, fewer at the end."""

    def seek(self, position: int, /) -> int:
        """Go to a byte."""


class Window:
    """A file seen through a buffer that moves forward: no value is read that nobody asked for."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream = stream
        self.size = size
        self.base = 0
        self.buffer = stream.read(CHUNK) or b""

    def get(self, position: int, count: int) -> bytes:
        """Exactly `count` bytes from `position`.

        Raises:
            HeaderFault: the file ends before.
        """
        start = position - self.base
        if start < 0 or start + count > len(self.buffer):
            if position < 0 or position + count > self.size:
                raise HeaderFault(f"the file ends at byte {self.size}, inside an element")
            self.base, start = position, 0
            self.stream.seek(position)
            self.buffer = self.stream.read(max(count, CHUNK)) or b""
            if len(self.buffer) < count:
                raise HeaderFault(f"the file ends at byte {position + len(self.buffer)}, inside an element")
        return self.buffer[start : start + count]

    def zeros(self, position: int) -> bool:
        """Whether only zeros follow, as far as 64 bytes show."""
        return not any(self.get(position, min(64, self.size - position)))


Element = tuple[int, bytes, int, int, int]
"""Tag, VR ("" where the file gives none), offset, length and end of a value.

The length is `UNDEFINED` for sequences that end with a delimiter, and for compressed pixels.
"""


def walk_elements(
    window: Window, start: int, explicit: bool, order: str, only_group: int | None = None
) -> Iterator[Element]:
    """The elements of the top level from `start`; the pixel data are the last that is seen.

    An element without a VR in an explicit data set is taken as an implicit one, as all toolkits do.

    Args:
        window: the file.
        start: byte to start at.
        explicit: whether elements carry their VR.
        order: "<" or ">".
        only_group: stop before the first element of another group (file meta information).

    Raises:
        HeaderFault: lengths that leave the file, unknown VRs, nesting without end.
    """
    tag_of = struct.Struct(f"{order}HH").unpack
    short_of = struct.Struct(f"{order}H").unpack
    long_of = struct.Struct(f"{order}L").unpack
    position, size, last = start, window.size, 0
    while position + 8 <= size:
        head = window.get(position, 12 if position + 12 <= size else 8)
        group, element = tag_of(head[:4])
        if only_group is not None and group != only_group:
            return
        tag = group << 16 | element
        vr = head[4:6]
        if explicit and vr in SHORT:
            length, offset = short_of(head[6:8])[0], position + 8
        elif explicit and vr in LONG:
            length, offset = long_of(head[8:12])[0] if len(head) == 12 else UNDEFINED, position + 12
        elif tag == 0xFFFCFFFC or (not group and window.zeros(position)):
            return
        elif explicit and not _is_length(vr):
            if window.zeros(position):
                return
            raise HeaderFault(f"unknown value representation {vr!r} at byte {position}")
        else:
            length, offset, vr = long_of(head[4:8])[0], position + 8, b""
        if tag in PIXELS:
            yield tag, vr, offset, length, offset
            return
        if tag < last and group <= 8 < last >> 16:
            raise HeaderFault(f"element ({group:04X},{element:04X}) at byte {position} is out of order")
        last = max(last, tag)
        if length == UNDEFINED:
            end = skip_sequence(window, offset, order)
        else:
            end = offset + length
            if end > size:
                raise HeaderFault(
                    f"element ({group:04X},{element:04X}) at byte {position} claims {length} bytes, "
                    f"the file has {size - offset} more"
                )
        yield tag, vr, offset, length, end
        position = end
    if position < size and any(window.get(position, size - position)):
        raise HeaderFault(f"{size - position} bytes too many at its end: it was cut")


def _is_length(field: bytes) -> bool:
    """Whether the bytes where a VR should be are rather the length of an implicit element."""
    return not field.isalpha()


def skip_sequence(window: Window, start: int, order: str) -> int:
    """The byte behind a value of undefined length (PS3.5 section 7.5): items in items, walked flat.

    Whether an item's elements carry their VR is seen from its first one: implicit items stand in explicit
    files, and explicit ones in values of VR UN, whatever the standard says (section 6.2.2).

    Raises:
        HeaderFault: the file ends inside, nesting or elements without end.
    """
    tag_of = struct.Struct(f"{order}HH").unpack
    short_of = struct.Struct(f"{order}H").unpack
    long_of = struct.Struct(f"{order}L").unpack
    stack: list[bool | None] = [None]  # of each open item: explicit or not, None before its first element
    position, size, get = start, window.size, window.get
    for _ in range(MAX_ELEMENTS):
        head = get(position, 8)
        group, element = tag_of(head[:4])
        vr = head[4:6]
        if group == 0xFFFE:
            length = long_of(head[4:8])[0]
            position += 8
            if element in (0xE00D, 0xE0DD):
                stack.pop()
                if not stack:
                    return position
            elif element != 0xE000:
                raise HeaderFault(f"no item at byte {position - 8}, inside a sequence")
            elif length == UNDEFINED:
                stack.append(None)
            else:
                position += length
        else:
            if stack[-1] is None:
                stack[-1] = vr in SHORT or vr in LONG
            if stack[-1] and vr in SHORT:
                length, position = short_of(head[6:8])[0], position + 8
            elif stack[-1] and vr in LONG:
                length, position = long_of(get(position + 8, 4))[0], position + 12
            elif not group or (stack[-1] and not _is_length(vr)):
                raise HeaderFault(f"no element at byte {position}, inside a sequence")
            else:
                length, position = long_of(head[4:8])[0], position + 8
            if length == UNDEFINED:
                stack.append(None)
            else:
                position += length
        if len(stack) > 2 * MAX_DEPTH:  # sequences and items
            raise HeaderFault(f"sequences nested deeper than {MAX_DEPTH} levels")
        if position > size:
            raise HeaderFault(f"the file ends at byte {size}, inside a sequence")
    raise HeaderFault(f"more than {MAX_ELEMENTS} elements")
