"""Functional groups of an enhanced object (PS3.3 C.7.6.16), parsed as far as they are asked for.

By hand and not with pydicom: an object may have 100,000 frames, and what is wanted of each is a dozen values.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from medrecon.io.dicom.reading.elements import LONG, SHORT, UNDEFINED, HeaderFault, Window, skip_sequence
from medrecon.io.dicom.reading.parsing import read_attributes

SHARED, PER_FRAME, DIMENSIONS = 0x52009229, 0x52009230, 0x00209222
NUMBERS = {b"FD": "d", b"FL": "f", b"UL": "L", b"SL": "l", b"US": "H", b"SS": "h"}


class Item:
    """One item of a sequence: a mapping from keywords to values.

    Args:
        raw: its elements.
        order: "<" or ">".
    """

    __slots__ = ("order", "places", "raw", "values")

    def __init__(self, raw: bytes, order: str) -> None:
        self.raw, self.order = raw, order
        self.places: dict[int, tuple[bytes, int, int]] | None = None
        self.values: dict[str, Any] = {}

    def get(self, keyword: str) -> Any:
        """A value: a list of items, a list of numbers or texts, or the one that there is; None if missing.

        Raises:
            HeaderFault: the elements cannot be walked.
            ValueError: the value is not of its kind.
        """
        if keyword in self.values:
            return self.values[keyword]
        tag, listed = attribute(keyword)
        place = self.elements().get(tag)
        value = None if place is None else self._decode(place, listed)
        self.values[keyword] = value
        return value

    def elements(self) -> dict[int, tuple[bytes, int, int]]:
        """Tag -> VR ("" where there is none), start and end of the value.

        Raises:
            HeaderFault: the elements cannot be walked.
        """
        if self.places is None:
            self.places = _places(self.raw, self.order)
        return self.places

    def _decode(self, place: tuple[bytes, int, int], listed: bytes) -> Any:
        vr, start, end = place
        raw = self.raw[start:end]
        vr = listed if vr in (b"", b"UN") else vr
        if vr == b"SQ":
            return items(raw, self.order)
        parts: list[Any]
        if vr in NUMBERS:
            code = NUMBERS[vr]
            parts = list(struct.unpack(f"{self.order}{len(raw) // struct.calcsize('<' + code)}{code}", raw))
        elif vr == b"AT":
            pairs = struct.unpack(f"{self.order}{len(raw) // 2}H", raw)
            parts = [a << 16 | b for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
        else:
            text = raw.decode("latin-1").strip(" \0")
            parts = [part.strip() for part in text.split("\\")] if text else []
            if vr in (b"DS", b"IS"):
                parts = [float(part) for part in parts]
        return parts[0] if len(parts) == 1 else parts or None


def functional_groups(path: Path) -> tuple[Item | None, list[Item], list[Item]]:
    """The shared functional groups of an object, those of each frame, and its dimensions.

    Raises:
        ScanError: the file cannot be read.
        HeaderFault: a sequence cannot be walked.
    """
    wanted = (SHARED, PER_FRAME, DIMENSIONS)
    header, values = read_attributes(path, wanted.__contains__)
    shared, frames, dimensions = (items(values.get(tag, (b"", b""))[1], header.order) for tag in wanted)
    return shared[0] if shared else None, frames, dimensions


@contextmanager
def no_collection() -> Iterator[None]:
    """No search for garbage meanwhile: 100,000 frames make millions of small objects, and none is."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def items(raw: bytes, order: str) -> list[Item]:
    """The items of a sequence.

    Raises:
        HeaderFault: they do not fill it.
    """
    head = _unpackers(order)[0]
    found, at, size = [], 0, len(raw)
    window = _window(raw)
    while at + 8 <= size:
        group, element, length = head(raw, at)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise HeaderFault("no item in a sequence")
        start = at + 8
        if length == UNDEFINED:
            at = skip_sequence(window, start, order)
            found.append(Item(raw[start : at - 8], order))
        else:
            at = start + length
            found.append(Item(raw[start:at], order))
    if at > size:
        raise HeaderFault("an item leaves its sequence")
    return found


@cache
def _unpackers(order: str) -> tuple[Callable[[bytes, int], tuple[Any, ...]], ...]:
    """What reads the head of an item, of an element with its VR, and a long length."""
    item, element, length = (struct.Struct(order + form).unpack_from for form in ("HHL", "HH2sH", "L"))
    return item, element, length


def _window(raw: bytes) -> Window:
    """A window over all of it at once."""
    window = Window(BytesIO(b""), len(raw))
    window.buffer = raw
    return window


def _places(raw: bytes, order: str) -> dict[int, tuple[bytes, int, int]]:
    explicit = raw[4:6] in SHORT or raw[4:6] in LONG
    _, head, long = _unpackers(order)
    found: dict[int, tuple[bytes, int, int]] = {}
    at, size = 0, len(raw)
    while at + 8 <= size:
        group, element, vr, length = head(raw, at)
        if explicit and vr in SHORT:
            start = at + 8
        elif explicit and vr in LONG and at + 12 <= size:
            start, length = at + 12, long(raw, at + 8)[0]
        else:
            vr, start, length = b"", at + 8, long(raw, at + 4)[0]
        if length == UNDEFINED:
            at = skip_sequence(_window(raw), start, order)
            found[group << 16 | element] = b"SQ", start, at - 8
        else:
            at = start + length
            if at > size:
                raise HeaderFault(f"element ({group:04X},{element:04X}) leaves its item")
            found[group << 16 | element] = vr, start, at
    return found


@cache
def attribute(keyword: str) -> tuple[int, bytes]:
    """Tag and value representation of a keyword; 0 for one that is no DICOM keyword."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    return (0, b"") if tag is None else (tag, dictionary_VR(tag)[:2].encode())
