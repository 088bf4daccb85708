"""NRRD headers (teem.sourceforge.net/nrrd/format.html), checked field by field.

Only headers that passed here are shown to ITK: its parser ends the process at 100,000 brackets.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from medrecon.io.geometry import check_affine
from medrecon.io.itk.header import (
    AGAIN,
    MAX_FIELD,
    MAX_HEADER,
    MAX_LINES,
    TextHeader,
    add_field,
    beside,
    check_with_itk,
    floats,
    in_millimetres,
    integers,
    millimetres,
    read_head,
)
from medrecon.io.scan import ScanError

TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
TIMED = {
    "left-posterior-superior-time": "lps",
    "lpst": "lps",
    "right-anterior-superior-time": "ras",
    "rast": "ras",
}
TIMED |= {"left-anterior-superior-time": "las", "last": "las"}
"""Spaces with an axis of time, and what they are without it."""
FIELDS = frozenset(
    re.findall(
        r"\w+",
        "content number type blocksize dimension sizes spacings thicknesses axismins axismaxs centers "
        "centerings labels units kinds min max oldmin oldmax datafile endian encoding lineskip byteskip "
        "sampleunits space spacedimension spaceunits spaceorigin spacedirections measurementframe",
    )
)
"""All fields of the format, without their blanks: `byte skip` and `byteskip` are one."""
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "hex": "hex"} | dict.fromkeys(
    ("ascii", "text", "txt"), "ascii"
)
SPATIAL_KINDS = ("domain", "space", "???", "none")
LIST_KINDS = ("list", "time", "???", "none", "stub", "scalar")
_VECTORS = re.compile(r"\s*(none|\([^()]*\))", re.IGNORECASE)
_LONGEST_SKIP = 1 << 24


def parse_nrrd(path: Path) -> TextHeader:
    """Parse an NRRD header (attached or detached).

    Raises:
        ScanError: a field is missing, unknown, there twice, contradicting or not supported.
    """
    head = read_head(path)
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise ScanError("no NRRD file: bad magic", path=path, remedy="give the right file name or file")
    end = re.search(rb"\r?\n\r?\n", head)
    fields = _fields(head[: end.start() if end else len(head)], path)
    sizes = integers(fields.get("sizes", ""), path, low=1)
    if integers(fields.get("dimension", ""), path, "a dimension") != [len(sizes)] or not 2 <= len(sizes) <= 4:
        raise ScanError(f"dimension {fields.get('dimension')} and sizes {sizes}", path=path, remedy=AGAIN)
    dtype, encoding = _encoding(fields, path)
    packed, digits = encoding == "gzip", encoding if encoding in ("ascii", "hex") else ""
    affine, list_axis, notes = _affine(fields, len(sizes), path)
    detached = fields.get("datafile", "")
    if end is None and (not detached or len(head) == MAX_HEADER):
        raise ScanError("the header has no end", path=path, remedy=AGAIN)
    data_path = beside(path, detached) if detached else path
    start = 0 if detached or end is None else end.end()
    start += _lines(data_path, start, integers(fields.get("lineskip", "0"), path, "a line skip")[0], path)
    (skip,) = integers(fields.get("byteskip", "0"), path, "a byte skip", low=-1)[:1]
    if skip < 0 and digits:
        raise ScanError(f"byte skip -1 of {digits} values", path=path, remedy=AGAIN)
    header = TextHeader(
        shape=tuple(sizes),
        dtype=dtype,
        affine=affine,
        list_axis=list_axis,
        data_path=data_path,
        offset=start if packed else None if skip < 0 else start + skip,
        packed=packed,
        skip=(None if skip < 0 else skip) if packed else 0,
        digits=digits,
        placed="spacedirections" in fields,
        notes=tuple(notes),
    )
    header = in_millimetres(header, _units(fields, list_axis, path))
    check_with_itk(header, path, "NrrdImageIO")
    return header


def _fields(text: bytes, path: Path) -> dict[str, str]:
    """The fields by their names in small letters without blanks; comments and `key:=value` lines are left."""
    fields: dict[str, str] = {}
    lines = text.decode("latin-1").splitlines()
    if len(lines) > MAX_LINES:
        raise ScanError(f"the header has {len(lines)} lines", path=path, remedy=AGAIN)
    for line in lines[1:]:
        if line.startswith("#") or not line.strip():
            continue
        name, sign, value = line.partition(":")
        known = "".join(name.lower().split())
        if sign and value.startswith("="):
            continue
        if known not in FIELDS or not sign:
            raise ScanError(f"{line[:60]!r} is no field of NRRD", path=path, remedy=AGAIN)
        if len(value) > MAX_FIELD and known not in ("content", "labels"):
            raise ScanError(f"{name!r} has {len(value)} characters", path=path, remedy=AGAIN)
        add_field(fields, known, value.strip(), path)
    return fields


def _encoding(fields: dict[str, str], path: Path) -> tuple[np.dtype, str]:
    """The stored type with its byte order, and how the values are encoded (`ENCODINGS`)."""
    named = " ".join(fields.get("type", "").lower().split())
    kind = next((kind for kind, names in TYPES.items() if named in names.split(",")), "")
    encoding = ENCODINGS.get(fields.get("encoding", "").lower(), "")
    unordered = kind[1:] == "1" or encoding == "ascii"
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "little" if unordered else "").lower(), "")
    if not kind or not order or not encoding:
        raise ScanError(
            f"unsupported: type {fields.get('type')!r}, endian {fields.get('endian')!r}, "
            f"encoding {fields.get('encoding')!r}",
            path=path,
            remedy="save it with raw or gzip encoding",
        )
    return np.dtype(order + kind), encoding


def _affine(fields: dict[str, str], count: int, path: Path) -> tuple[np.ndarray, int | None, list[str]]:
    notes: list[str] = []
    space = fields.get("space", "").lower()
    timed = space in TIMED or fields.get("spacedimension", "").strip() == "4"
    space = TIMED.get(space, space)
    if "spacedirections" in fields:
        kinds = _directions(fields["spacedirections"], count, 4 if timed else 3, path)
        if space and space not in SPACES:
            raise ScanError(f"space {space!r} is not supported", path=path, remedy="save it in LPS or RAS")
        if not space and fields.get("spacedimension", "").strip() not in ("3", "4"):
            raise ScanError("space directions without a space", path=path, remedy="save it in LPS or RAS")
        if not space:
            notes.append("no space is named: read as left-posterior-superior")
    elif "spacings" in fields:
        kinds = _spacings(fields["spacings"], path)
        notes.append("no space directions: orientation and position are unknown")
    else:
        raise ScanError(
            "neither space directions nor spacings: the voxels' size is unknown", path=path, remedy=AGAIN
        )
    lists = [axis for axis, kind in enumerate(kinds) if kind is None]
    spatial = [kind for kind in kinds if kind is not None]
    if len(spatial) != 3 or len(kinds) != count:
        raise ScanError(f"{len(spatial)} spatial axes instead of 3", path=path, remedy=AGAIN)
    _check_kinds(fields.get("kinds", ""), count, lists, timed, path)
    affine = np.eye(4)
    affine[:3, :3] = np.transpose(spatial)
    origin = floats(fields.get("spaceorigin", "nan,nan,nan").strip("()"), path, ",", nan=True)
    if len(origin) == 4 and timed:
        del origin[3]
    if len(origin) != 3:
        raise ScanError(f"space origin with {len(origin)} values", path=path, remedy=AGAIN)
    if not all(map(math.isnan, origin)):
        affine[:3, 3] = origin
    elif "spacedirections" in fields:
        notes.append("no space origin: the position is unknown")
    affine = np.diag([*SPACES.get(space, (-1, -1, 1)), 1.0]) @ affine
    check_affine(affine, "space directions", path)
    if "oldmin" in fields or "oldmax" in fields:
        notes.append("old min and old max are not applied: values are as stored")
    return affine, lists[0] if lists else None, notes


def _directions(text: str, count: int, size: int, path: Path) -> list[list[float] | None]:
    """A vector for each spatial axis; None for `none`, `(nan,nan,nan)` and an axis of time (of four)."""
    found: list[list[float] | None] = []
    place = 0
    while match := _VECTORS.match(text, place):
        place = match.end()
        word = match[1].lower()
        vector = [math.nan] * size if word == "none" else floats(word.strip("()"), path, ",", nan=True)
        whole = not any(math.isnan(v) for v in vector)
        if not whole and not all(math.isnan(v) for v in vector):
            raise ScanError(f"{match[1][:60]!r} where finite numbers should be", path=path, remedy=AGAIN)
        if len(vector) != size or (whole and any(vector[3:]) and any(vector[:3])):
            raise ScanError("space directions do not fit the space", path=path, remedy=AGAIN)
        found.append(vector[:3] if whole and not any(vector[3:]) else None)
    if text[place:].strip() or len(found) != count:
        raise ScanError("space directions do not fit the sizes", path=path, remedy=AGAIN)
    return found


def _spacings(text: str, path: Path) -> list[list[float] | None]:
    """Axes along x, y and z with these steps; None for nan."""
    found: list[list[float] | None] = []
    for step in floats(text, path, nan=True):
        axis = sum(kind is not None for kind in found)
        if not math.isnan(step) and step <= 0:
            raise ScanError(f"spacings {text[:60]!r}", path=path, remedy=AGAIN)
        found.append(None if math.isnan(step) else [step * (axis == a) for a in range(3)])
    return found


def _check_kinds(text: str, count: int, lists: list[int], timed: bool, path: Path) -> None:
    """Refuse voxels that are no single values, and kinds that contradict the directions."""
    kinds = text.lower().split()
    if kinds and len(kinds) != count:
        raise ScanError(f"{len(kinds)} kinds for {count} axes", path=path, remedy=AGAIN)
    for axis, kind in enumerate(kinds):
        listed = (*LIST_KINDS, *SPATIAL_KINDS) if timed else LIST_KINDS
        if kind not in (listed if axis in lists else SPATIAL_KINDS):
            raise ScanError(f"voxels are no single values (kinds: {text[:60]})", path=path, remedy=AGAIN)


def _units(fields: dict[str, str], list_axis: int | None, path: Path) -> tuple[float, float, float]:
    """Millimetres in the header's units along the three directions of space."""
    found = []
    for name in ("spaceunits", "units"):
        if name in fields:
            units = re.findall(r'"[^"]*"|[^\s"]+', fields[name])
            if len(units) == 4 and list_axis is not None:  # `space units` are those of the space: time last
                del units[list_axis if name == "units" else 3]
            if len(units) != 3:
                raise ScanError(f"{len(units)} units for 3 directions", path=path, remedy=AGAIN)
            scales = [millimetres(unit, path) for unit in units]
            if any(scale is not None for scale in scales):
                found.append([1.0 if scale is None else scale for scale in scales])
    if found and found[-1] != found[0]:
        raise ScanError("space units and units contradict each other", path=path, remedy="save it in mm")
    if found and len(set(found[0])) > 1:
        raise ScanError("units differ between the axes", path=path, remedy="save it in mm")
    scale = found[0][0] if found else 1.0
    return scale, scale, scale


def _lines(path: Path, start: int, count: int, header: Path) -> int:
    """Bytes of the lines that come before the values."""
    if not count:
        return 0
    with path.open("rb") as stream:
        stream.seek(start)
        text = stream.read(_LONGEST_SKIP)
    ends = re.finditer(rb"\n", text)
    for number, end in enumerate(ends, 1):
        if number == count:
            return end.end()
    raise ScanError(f"fewer than {count} lines before the values", path=header, remedy=AGAIN)
