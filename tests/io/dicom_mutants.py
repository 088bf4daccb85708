"""DICOM files with one attribute that is odd."""

from __future__ import annotations

import struct

import numpy as np

LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
VRS = [
    *sorted(LONG),
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH"),
    *(b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"zz", b"??", b"\0\0"),
]
VALUES = (
    *(b"", b" ", b"abc ", b"+2500 ", b"-9999 ", b"undefined ", b"idna", b"base64", b"ISO_IR 192", b"\\\\\\ "),
    *(b"ISO 2022 IR 87\\idna", b"1e-300", b"1e300 ", b"-0.0", b"0 ", b"1", b"NaN ", b"99999999999999999999"),
    *(b"1\\2\\3\\4\\5\\6", b"1.2.3\\1.2.4", b"\xff\xfe\x80\x81", b"\x1b$B\x1b(B", b"M\xfcller^J\xf6rg"),
    *(b"=" * 400, b"^" * 2000, b"\\" * 4000, b"7" * 60000, b"A\\" * 15000, b"\0" * 40, b"=cmd|' /C calc'!A0"),
    *(b"20241399", b"256199.5", b"YES ", b"DERIVED\\PRIMARY ", b"HU", b"PT", b"MR", b"\x01\0", b"\xff\x7f"),
    *(
        b"\0\0\0\x80",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"1,5 ",
        b"0x10",
        b"1_000 ",
        b"\xef\xbc\x91\xef\xbc\x92",
    ),
)


def elements(data: bytes) -> list[tuple[int, int, int]]:
    """(start, start of the value, end) of the top-level elements of an explicit little-endian file."""
    found, at = [], 132
    while at + 8 <= len(data):
        vr = data[at + 4 : at + 6]
        place, kind = (8, "<I") if vr in LONG else (6, "<H")
        length = struct.unpack_from(kind, data, at + place)[0]
        value = at + place + struct.calcsize(kind)
        end = value + length
        if length == 0xFFFFFFFF:
            end = data.find(b"\xfe\xff\xdd\xe0\0\0\0\0", at) + 8
        if end > len(data) or end < at + 8:
            break
        found.append((at, value, end))
        at = end
    return found


def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
    """An element in explicit little endian, as long as its value is."""
    value += b"\0" * (len(value) % 2)
    if vr in LONG:
        return tag + vr + struct.pack("<HI", 0, len(value)) + value
    return tag + vr + struct.pack("<H", len(value) & 0xFFFF) + value[:0xFFFF]


def nested(tag: bytes, depth: int, *, undefined: bool) -> bytes:
    """A sequence in a sequence in a sequence ..."""
    content = element(b"\x08\0\x00\x01", b"SH", b"CODE")
    for level in range(depth):
        mine = tag if level == depth - 1 else b"\x40\0\x75\x02"
        if undefined:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content
            item += struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
            content = mine + b"SQ" + struct.pack("<HI", 0, 0xFFFFFFFF) + item
        else:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
            content = mine + b"SQ" + struct.pack("<HI", 0, len(item)) + item
    return content


def mutate_attribute(data: bytes, seed: int) -> bytes:
    """One attribute of an explicit little-endian file is changed, and all lengths are right."""
    rng = np.random.default_rng(seed)
    places = elements(data)
    start, value, end = places[int(rng.integers(0, len(places)))]
    tag, vr, content = data[start : start + 4], data[start + 4 : start + 6], data[value:end]
    kind = int(rng.integers(0, 9))
    if kind <= 3:
        new = element(tag, vr, VALUES[int(rng.integers(0, len(VALUES)))])
    elif kind == 4:
        new = element(tag, VRS[int(rng.integers(0, len(VRS)))], content)
    elif kind == 5:
        new = b""
    elif kind == 6:
        new = tag + struct.pack("<I", len(content)) + content  # without a VR
    elif kind == 7:
        other = places[int(rng.integers(0, len(places)))]
        new = element(tag, vr, data[other[1] : other[2]][:60000])
    else:
        deep = nested(tag, int(rng.integers(1, 5)) ** 5, undefined=bool(rng.integers(0, 2)))
        new = deep if vr == b"SQ" or rng.random() < 0.3 else data[start:end] + data[start:end]
    return data[:start] + new + data[end:]
