"""MetaImage headers (.mha, .mhd; ITK's MetaIO), checked field by field."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medrecon.io.geometry import check_affine
from medrecon.io.itk.header import (
    AGAIN,
    MAX_FIELD,
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
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
SAME = {
    "Orientation": "TransformMatrix",
    "Rotation": "TransformMatrix",
    "Position": "Offset",
    "Origin": "Offset",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
"""Older names of fields."""
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
"""What ITK writes and takes; it tells true from its first letter alone, so that "yes" is false there."""


def parse_meta(path: Path) -> TextHeader:
    """Parse a MetaImage header.

    Raises:
        ScanError: a field is missing, there twice, contradicting or not supported.
    """
    head = read_head(path)
    match = re.search(rb"(?:^|\n)[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)(?:\r?\n|$)", head)
    if not match:
        raise ScanError("no MetaImage header: no ElementDataFile", path=path, remedy="give the right file")
    fields = _fields(head[: match.start()], path)
    sizes = integers(fields.get("DimSize", ""), path, low=1)
    count = len(sizes)
    if integers(fields.get("NDims", ""), path, "a dimension") != [count] or not 2 <= count <= 4:
        raise ScanError(f"NDims {fields.get('NDims')} and DimSize {sizes}", path=path, remedy=AGAIN)
    if count == 2:
        raise ScanError("2 spatial axes instead of 3", path=path, remedy=AGAIN)
    name = match[1].decode("latin-1").strip()
    local = name in ("LOCAL", "Local", "local")
    if name.split(" ")[0].upper() == "LIST" or "%" in name:
        raise ScanError("the values are in several files", path=path, remedy="save them in one file")
    packed = _boolean(fields, "CompressedData", False, path)
    packed_size = integers(fields["CompressedDataSize"], path)[0] if "CompressedDataSize" in fields else None
    digits = "" if _boolean(fields, "BinaryData", True, path) else "ascii"
    if packed and digits:
        raise ScanError("CompressedData and no BinaryData contradict each other", path=path, remedy=AGAIN)
    header = TextHeader(
        shape=tuple(sizes),
        dtype=_dtype(fields, path),
        affine=_affine(fields, count, path),
        list_axis=3 if count == 4 else None,
        data_path=path if local else beside(path, name),
        offset=_offset(fields, match.end() if local else 0, packed, path),
        packed=packed,
        packed_size=packed_size if packed else None,
        digits=digits,
        notes=() if "TransformMatrix" in fields else ("no TransformMatrix: the orientation is unknown",),
    )
    if header.offset is not None and local and header.offset < match.end():
        raise ScanError("HeaderSize ends inside the header", path=path, remedy=AGAIN)
    scale = millimetres(fields.get("DistanceUnits", ""), path) or 1.0
    header = in_millimetres(header, (scale, scale, scale))
    check_with_itk(header, path, "MetaImageIO")
    return header


def _fields(text: bytes, path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    lines = text.decode("latin-1").splitlines()
    if len(lines) > MAX_LINES:
        raise ScanError(f"the header has {len(lines)} lines", path=path, remedy=AGAIN)
    for line in lines:
        if not line.strip():
            continue
        parts = re.match(r"([^=:]*)[=:](.*)", line)
        if parts is None or not parts[1].strip() or not parts[1].isascii():
            raise ScanError(f"{line[:60]!r} is no field of MetaImage", path=path, remedy=AGAIN)
        name, value = parts[1].strip(), parts[2].strip()
        if len(value) > MAX_FIELD:
            raise ScanError(f"{name[:40]!r} has {len(value)} characters", path=path, remedy=AGAIN)
        add_field(fields, SAME.get(name, name), value, path)
    if fields.get("ObjectType", "Image") != "Image":
        raise ScanError(f"holds a {fields['ObjectType'][:40]}, no image", path=path, remedy="give an image")
    return fields


def _boolean(fields: dict[str, str], name: str, default: bool, path: Path) -> bool:
    if name not in fields:
        return default
    value = BOOLEANS.get(fields[name].lower())
    if value is None:
        raise ScanError(f"{name} is {fields[name][:40]!r}", path=path, remedy="write it as True or False")
    return value


def _dtype(fields: dict[str, str], path: Path) -> np.dtype:
    """The stored type with its byte order.

    Raises:
        ScanError: no single numbers, or numbers that stand for others.
    """
    kind = TYPES.get(fields.get("ElementType", ""), "")
    channels = fields.get("ElementNumberOfChannels", "1")
    if not kind or channels != "1":
        raise ScanError(
            f"type {fields.get('ElementType')}, channels {channels}: unsupported",
            path=path,
            remedy=AGAIN,
        )
    for name, plain in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if name in fields and floats(fields[name], path) != [plain]:
            raise ScanError(
                f"{name} is {fields[name]}, which ITK ignores", path=path, remedy="save the values themselves"
            )
    big = _boolean(fields, "BinaryDataByteOrderMSB", False, path)
    return np.dtype((">" if big else "<") + kind)


def _offset(fields: dict[str, str], start: int, packed: bool, path: Path) -> int | None:
    """Where the values start; None where they are the last bytes of the file."""
    (size,) = integers(fields.get("HeaderSize", "0"), path, "a HeaderSize", low=-1)[:1]
    if size < 0 and packed:
        raise ScanError("HeaderSize -1 of compressed data", path=path, remedy=AGAIN)
    return None if size < 0 else size or start


def _affine(fields: dict[str, str], count: int, path: Path) -> np.ndarray:
    steps = floats(fields.get("ElementSpacing", fields.get("ElementSize", "")), path)
    if len(steps) != count or min(steps[:3]) <= 0:
        raise ScanError(f"ElementSpacing {steps}: the voxels' size is unknown", path=path, remedy=AGAIN)
    matrix = fields.get("TransformMatrix", "")
    numbers = floats(matrix, path) if matrix else np.eye(count).ravel()
    if len(numbers) != count**2:
        raise ScanError(f"TransformMatrix {matrix!r} is not {count} x {count}", path=path, remedy=AGAIN)
    directions = np.reshape(numbers, (count, count))
    place = floats(fields["Offset"], path) if fields.get("Offset") else [0.0] * count
    if len(place) != count:
        raise ScanError(f"Offset {fields['Offset']!r} has not {count} values", path=path, remedy=AGAIN)
    affine = np.eye(4)
    affine[:3, :3] = (directions[:3, :3] * np.asarray(steps[:3])[:, None]).T
    affine[:3, 3] = place[:3]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    check_affine(affine, "TransformMatrix", path)
    return affine
