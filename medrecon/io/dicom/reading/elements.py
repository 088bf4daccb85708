"""Walk over the elements of a DICOM data set by their lengths (PS3.5 section 7), without recursion."""

from __future__ import annotations

import struct
from io import FileIO

UNDEFINED = 0xFFFFFFFF
CHUNK = 1 << 14
MAX_DEPTH = 64
MAX_ELEMENTS = 3_000_000
MAX_VALUE = 1 << 16

LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH")
) | frozenset((b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"))
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
NOTED = frozenset((0x52009229, 0x52009230, 0x00283000))


class HeaderFault(Exception):
    """The elements cannot be walked."""


class Window:
    """A file seen through a buffer that moves forward: no value is read that nobody asked for."""

    def __init__(self, stream: FileIO | None, size: int) -> None:
        self.stream = stream
        self.size = size
        self.base = 0
        self.buffer = b"" if stream is None else stream.read(CHUNK) or b""

    @classmethod
    def of_bytes(cls, data: bytes) -> Window:
        """A window over bytes that are in memory already."""
        window = cls(None, len(data))
        window.buffer = data
        return window

    def get(self, position: int, count: int) -> bytes:
        """Exactly `count` bytes from `position`.

        Raises:
            HeaderFault: the file ends before.
        """
        start = position - self.base
        if start < 0 or start + count > len(self.buffer):
            if position < 0 or position + count > self.size or self.stream is None:
                raise HeaderFault(f"the file ends at byte {self.size}, inside an element")
            self.base, start = position, 0
            self.stream.seek(position)
            self.buffer = self.stream.read(max(count, CHUNK)) or b""
            if len(self.buffer) < count:
                raise HeaderFault(f"the file ends at byte {position + len(self.buffer)}, inside an element")
        return self.buffer[start : start + count]


def read_elements(
    window: Window,
    start: int,
    explicit: bool,
    order: str,
    wanted: frozenset[int],
    values: dict[int, bytes],
    seen: set[int],
    stop_after_group: int = 0,
) -> tuple[int, int, int] | None:
    """Walk the top level from `start`, keep wanted values, and stop at the pixel data.

    Args:
        window: the file.
        start: byte to start at.
        explicit: whether elements carry their VR.
        order: "<" or ">".
        wanted: tags whose values are kept.
        values: receives tag -> raw value.
        seen: receives the tags of `NOTED` sequences.
        stop_after_group: stop before the first element of another group (file meta information).

    Returns:
        (tag, offset, length) of the pixel value; (0, offset, 0) where the group ended; None at the end.

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
        if stop_after_group and group != stop_after_group:
            return 0, position, 0
        tag = group << 16 | element
        vr = head[4:6]
        if not explicit:
            length, offset, vr = long_of(head[4:8])[0], position + 8, b"  "
        elif vr in SHORT:
            length, offset = short_of(head[6:8])[0], position + 8
        elif vr in LONG:
            length, offset = long_of(head[8:12])[0] if len(head) == 12 else UNDEFINED, position + 12
        elif tag == 0xFFFCFFFC or not any(window.get(position, min(64, size - position))):
            return None
        else:
            raise HeaderFault(f"unknown value representation {vr!r} at byte {position}")
        if tag in PIXELS:
            return tag, offset, length
        if tag < last and tag >> 16 <= 8 < last >> 16:
            raise HeaderFault(f"element ({group:04X},{element:04X}) at byte {position} is out of order")
        last = max(last, tag)
        if tag in NOTED:
            seen.add(tag)
        if length == UNDEFINED:
            position = _skip_sequence(window, offset, explicit and vr != b"UN", order)
            continue
        if offset + length > size:
            raise HeaderFault(
                f"element ({group:04X},{element:04X}) at byte {position} claims {length} bytes, "
                f"the file has {size - offset} more"
            )
        if tag in wanted and length <= MAX_VALUE:
            values[tag] = window.get(offset, length)
        position = offset + length
    if position < size and any(window.get(position, size - position)):
        raise HeaderFault(f"{size - position} bytes too many at its end: it was cut")
    return None


def _skip_sequence(window: Window, start: int, explicit: bool, order: str) -> int:
    """The byte behind a value of undefined length (PS3.5 section 7.5): items in items, walked flat."""
    tag_of = struct.Struct(f"{order}HH").unpack
    short_of = struct.Struct(f"{order}H").unpack
    long_of = struct.Struct(f"{order}L").unpack
    stack = [("sequence", explicit)]
    position = start
    for _ in range(MAX_ELEMENTS):
        head = window.get(position, 8)
        group, element = tag_of(head[:4])
        if group == 0xFFFE:
            length = long_of(head[4:8])[0]
            position += 8
            if element == 0xE000:
                if length == UNDEFINED:
                    stack.append(("item", stack[-1][1]))
                else:
                    position += length
            else:
                stack.pop()
                if not stack:
                    return position
        else:
            explicit, vr = stack[-1][1], head[4:6]
            if not explicit:
                length, offset = long_of(head[4:8])[0], position + 8
            elif vr in LONG:
                length, offset = long_of(window.get(position + 8, 4))[0], position + 12
            elif vr in SHORT:
                length, offset = short_of(head[6:8])[0], position + 8
            else:
                raise HeaderFault(f"unknown value representation {vr!r} at byte {position}")
            if length == UNDEFINED:
                stack.append(("sequence", explicit and vr != b"UN"))
                position = offset
            else:
                position = offset + length
        if len(stack) > MAX_DEPTH:
            raise HeaderFault(f"sequences nested deeper than {MAX_DEPTH} levels")
        if position > window.size:
            raise HeaderFault(f"the file ends at byte {window.size}, inside a sequence")
    raise HeaderFault(f"more than {MAX_ELEMENTS} elements")
