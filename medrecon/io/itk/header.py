"""Text headers of NRRD (teem.sourceforge.net/nrrd/format.html) and MetaImage (ITK's MetaIO), checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.geometry import check_affine
from medrecon.io.scan import ScanError

MAX_HEADER = 1 << 20
AGAIN = "save it again as a scalar volume with its geometry"
NRRD_TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,int64,int64_t",
    "u8": "ulonglong,unsigned long long,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
META_TYPES = {
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
SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}


@dataclass(frozen=True)
class TextHeader:
    """What such a header says.

    Attributes:
        shape: sizes in the order in which they vary, fastest first.
        dtype: of the stored values, with byte order.
        affine: (4, 4) voxel index -> RAS mm, of the three spatial axes.
        list_axis: the axis that is not spatial; None without one.
        data_path: the file that holds the values; `offset` where they start in it.
        packed: whether they are compressed (gzip or zlib).
        notes: what must be said.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    list_axis: int | None
    data_path: Path
    offset: int
    packed: bool
    notes: tuple[str, ...]


def parse_nrrd(path: Path) -> TextHeader:
    """Parse an NRRD header (attached or detached).

    Raises:
        ScanError: a field is missing, contradicting or not supported.
    """
    head = _head(path)
    end = re.search(rb"\r?\n\r?\n", head)
    text = head[: end.start() if end else len(head)]
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise ScanError("no NRRD file: bad magic", path=path, remedy="give the right file name or file")
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").splitlines()[1:]:
        match = re.match(r"([^:#]+): (.*)", line)
        if match and match[1].strip().lower() not in fields:
            fields[match[1].strip().lower()] = match[2].strip()
    sizes = _integers(fields.get("sizes", ""), path)
    if _integers(fields.get("dimension", ""), path) != [len(sizes)] or not 2 <= len(sizes) <= 4:
        raise ScanError(f"dimension {fields.get('dimension')} and sizes {sizes}", path=path, remedy=AGAIN)
    kind = next(
        (k for k, names in NRRD_TYPES.items() if fields.get("type", "").lower() in names.split(",")), ""
    )
    order = {"little": "<", "big": ">"}.get(
        fields.get("endian", "little" if kind[1:] == "1" else "").lower(), ""
    )
    encoding = fields.get("encoding", "").lower()
    if not kind or not order or encoding not in ("raw", "gzip", "gz"):
        raise ScanError(
            f"unsupported: type {fields.get('type')!r}, endian {fields.get('endian')!r}, {encoding!r}",
            path=path,
            remedy="save it with raw or gzip encoding",
        )
    if any(
        _integers(fields.get(name, "0"), path) != [0]
        for name in ("line skip", "byte skip", "lineskip", "byteskip")
    ):
        raise ScanError("line skip and byte skip are not supported", path=path, remedy=AGAIN)
    affine, list_axis, notes = _nrrd_affine(fields, sizes, path)
    detached = fields.get("data file", fields.get("datafile", ""))
    if not detached and end is None:
        raise ScanError("the header has no end", path=path, remedy=AGAIN)
    data_path = _beside(path, detached) if detached else path
    offset = 0 if detached or end is None else end.end()
    return TextHeader(
        tuple(sizes),
        np.dtype(order + kind),
        affine,
        list_axis,
        data_path,
        offset,
        encoding != "raw",
        tuple(notes),
    )


def _nrrd_affine(
    fields: dict[str, str], sizes: list[int], path: Path
) -> tuple[np.ndarray, int | None, list[str]]:
    space = fields.get("space", "").lower()
    notes: list[str] = []
    affine = np.eye(4)
    if "space directions" in fields:
        columns = re.findall(r"none|\([^)]*\)", fields["space directions"].lower())
        kinds = [None if c == "none" else _floats(c.strip("()"), ",", path) for c in columns]
        if len(kinds) != len(sizes) or any(k is not None and len(k) != 3 for k in kinds):
            raise ScanError("space directions do not fit the sizes", path=path, remedy=AGAIN)
    elif "spacings" in fields:
        steps = _floats(fields["spacings"], None, path, nan=True)
        kinds = []
        for step in steps:
            axis = sum(k is not None for k in kinds)
            kinds.append(None if math.isnan(step) else [step * (axis == a) for a in range(3)])
        notes.append("no space directions: orientation and position are unknown")
    else:
        raise ScanError(
            "neither space directions nor spacings: the voxels' size is unknown", path=path, remedy=AGAIN
        )
    lists = [axis for axis, kind in enumerate(kinds) if kind is None]
    spatial = [kind for kind in kinds if kind is not None]
    if len(spatial) != 3 or len(kinds) != len(sizes):
        raise ScanError(f"{len(spatial)} spatial axes instead of 3", path=path, remedy=AGAIN)
    if space and space not in SPACES:
        raise ScanError(f"space {space!r} is not supported", path=path, remedy="save it in LPS or RAS")
    if not space and not notes:
        notes.append("no space is named: read as left-posterior-superior")
    affine[:3, :3] = np.transpose(spatial)
    if "space origin" in fields:
        origin = _floats(fields["space origin"].strip("()"), ",", path)
        if len(origin) != 3:
            raise ScanError(f"space origin with {len(origin)} values", path=path, remedy=AGAIN)
        affine[:3, 3] = origin
    affine = np.diag([*SPACES.get(space, (-1, -1, 1)), 1.0]) @ affine
    check_affine(affine, "space directions", path)
    kinds_text = fields.get("kinds", "").lower()
    if re.search(r"color|colour|complex|vector|matrix|tensor|quaternion", kinds_text):
        raise ScanError(f"voxels are no single values (kinds: {kinds_text})", path=path, remedy=AGAIN)
    return affine, lists[0] if lists else None, notes


def parse_meta(path: Path) -> TextHeader:
    """Parse a MetaImage header (.mha, .mhd).

    Raises:
        ScanError: a field is missing, contradicting or not supported.
    """
    head = _head(path)
    match = re.search(rb"ElementDataFile *= *([^\r\n]*)\r?\n?", head)
    if not match:
        raise ScanError("no MetaImage header: no ElementDataFile", path=path, remedy="give the right file")
    fields: dict[str, str] = {}
    for line in head[: match.start()].decode("latin-1").splitlines():
        key, sign, value = line.partition("=")
        if sign:
            fields[key.strip()] = value.strip()
    sizes = _integers(fields.get("DimSize", ""), path)
    count = len(sizes)
    if _integers(fields.get("NDims", ""), path) != [count] or not 2 <= count <= 4:
        raise ScanError(f"NDims {fields.get('NDims')} and DimSize {sizes}", path=path, remedy=AGAIN)
    kind = META_TYPES.get(fields.get("ElementType", ""), "")
    if (
        not kind
        or fields.get("ElementNumberOfChannels", "1") != "1"
        or fields.get("BinaryData", "True") != "True"
    ):
        raise ScanError(
            f"type {fields.get('ElementType')}, channels {fields.get('ElementNumberOfChannels', '1')}, "
            f"BinaryData {fields.get('BinaryData')}: unsupported",
            path=path,
            remedy=AGAIN,
        )
    steps = _floats(fields.get("ElementSpacing", fields.get("ElementSize", "")), None, path)
    if len(steps) != count or min(steps[:3], default=0) <= 0:
        raise ScanError(f"ElementSpacing {steps}: the voxels' size is unknown", path=path, remedy=AGAIN)
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    name = match[1].decode("latin-1").strip()
    if name.upper() == "LIST" or "%" in name:
        raise ScanError("the values are in several files", path=path, remedy="save them in one file")
    if _integers(fields.get("HeaderSize", "0"), path) not in ([0],):
        raise ScanError("HeaderSize is not supported", path=path, remedy=AGAIN)
    local = name.upper() == "LOCAL"
    return TextHeader(
        tuple(sizes),
        np.dtype((">" if big else "<") + kind),
        _meta_affine(fields, count, steps, path),
        3 if count == 4 else None,
        path if local else _beside(path, name),
        match.end() if local else 0,
        fields.get("CompressedData", "False").lower() == "true",
        () if "TransformMatrix" in fields or "Orientation" in fields or "Rotation" in fields
        else ("no TransformMatrix: the orientation is unknown",),
    )  # fmt: skip


def _meta_affine(fields: dict[str, str], count: int, steps: list[float], path: Path) -> np.ndarray:
    matrix = next((fields[k] for k in ("TransformMatrix", "Orientation", "Rotation") if k in fields), "")
    origin = next((fields[k] for k in ("Offset", "Position", "Origin") if k in fields), "")
    directions = (
        np.reshape(_floats(matrix, None, path), (count, count)) if matrix.count(" ") == count**2 - 1 else None
    )
    if directions is None:
        if matrix:
            raise ScanError(f"TransformMatrix {matrix!r} is not {count} x {count}", path=path, remedy=AGAIN)
        directions = np.eye(count)
    place = _floats(origin, None, path) if origin else [0.0] * count
    if len(place) != count:
        raise ScanError(f"Offset {origin!r} has not {count} values", path=path, remedy=AGAIN)
    affine = np.eye(4)
    side = min(3, count)
    affine[:side, :side] = (directions[:side, :side] * np.asarray(steps[:side])[:, None]).T
    affine[:side, 3] = place[:side]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    check_affine(affine, "TransformMatrix", path)
    return affine


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_HEADER)


def _beside(path: Path, name: str) -> Path:
    """A data file named by a header: in the same folder, or it is refused."""
    data = path.parent / name
    if Path(name).name != name or not data.is_file():
        raise ScanError(
            f"its data file {name[:80]!r} is missing or in another folder",
            path=path,
            remedy="put both in one folder",
        )
    return data


def _integers(text: str, path: Path) -> list[int]:
    try:
        values = [int(part) for part in text.split()]
    except ValueError:
        values = []
    if not values or any(not 0 <= v < 2**31 for v in values):
        raise ScanError(f"{text[:60]!r} where sizes should be", path=path, remedy=AGAIN)
    return values


def _floats(text: str, separator: str | None, path: Path, nan: bool = False) -> list[float]:
    try:
        values = [float(part) for part in text.split(separator)]
    except ValueError:
        values = [math.inf]
    if not values or any(math.isinf(v) or (math.isnan(v) and not nan) or abs(v) > 1e7 for v in values):
        raise ScanError(f"{text[:60]!r} where finite numbers should be", path=path, remedy=AGAIN)
    return values
