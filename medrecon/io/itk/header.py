"""What the text headers of NRRD and MetaImage share: strict fields, units, places of values, ITK's word."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medrecon.io.geometry import RAS_FROM_LPS
from medrecon.io.scan import ScanError

MAX_HEADER = 1 << 20
MAX_LINES = 20_000
MAX_FIELD = 4096
AGAIN = "save it again as a scalar volume with its geometry"
MM = {
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "m": 1e3, "meter": 1e3, "metre": 1e3, "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micron": 1e-3,
    "micrometer": 1e-3, "micrometre": 1e-3, "nm": 1e-6, "nanometer": 1e-6, "nanometre": 1e-6,
}  # fmt: skip
"""Millimetres in each unit of length, by its name in small letters and without a plural s."""
UNKNOWN_UNITS = ("", "?", "???", "none", "unknown")
_PIXELS = {
    sitk.sitkInt8: "i1", sitk.sitkUInt8: "u1", sitk.sitkInt16: "i2", sitk.sitkUInt16: "u2",
    sitk.sitkInt32: "i4", sitk.sitkUInt32: "u4", sitk.sitkInt64: "i8", sitk.sitkUInt64: "u8",
    sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8",
}  # fmt: skip


@dataclass(frozen=True)
class TextHeader:
    """What such a header says.

    Attributes:
        shape: sizes in the order in which they vary, fastest first.
        dtype: of the stored values, with byte order.
        affine: (4, 4) voxel index -> RAS mm, of the three spatial axes.
        list_axis: the axis that is not spatial; None without one.
        data_path: the file that holds the values.
        offset: where they start in it; None where they are its last bytes.
        packed: whether they are compressed (gzip or zlib).
        skip: bytes to leave out after unpacking; None where the values are the last bytes.
        packed_size: bytes of the compressed stream; None where it goes to the end of the file.
        digits: "ascii" or "hex" where the values are text; else "".
        placed: whether the header says where the volume lies; else its corner is at nought.
        scale: what the affine was multiplied with to be in mm, along R, A and S.
        notes: what must be said.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    list_axis: int | None
    data_path: Path
    offset: int | None
    packed: bool = False
    skip: int | None = 0
    packed_size: int | None = None
    digits: str = ""
    placed: bool = True
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that the values take unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_head(path: Path) -> bytes:
    """The first bytes of a file: as many as a header may have."""
    with path.open("rb") as stream:
        return stream.read(MAX_HEADER)


def add_field(fields: dict[str, str], name: str, value: str, path: Path) -> None:
    """Keep a field of a header.

    Raises:
        ScanError: it is there already: which one counts is anybody's guess.
    """
    if name in fields:
        raise ScanError(f"the header has {name!r} twice", path=path, remedy="delete the wrong line")
    fields[name] = value


def integers(text: str, path: Path, what: str = "sizes", low: int = 0) -> list[int]:
    """Whole numbers from a header's field.

    Raises:
        ScanError: no numbers, or out of range.
    """
    parts = text[:MAX_FIELD].split()
    if not parts or any(re.fullmatch(r"-?\d{1,10}", part) is None for part in parts):
        raise ScanError(f"{text[:60]!r} where {what} should be", path=path, remedy=AGAIN)
    values = [int(part) for part in parts]
    if any(not low <= value < 2**31 for value in values):
        raise ScanError(f"{text[:60]!r} where {what} should be", path=path, remedy=AGAIN)
    return values


def floats(text: str, path: Path, separator: str | None = None, nan: bool = False) -> list[float]:
    """Finite numbers from a header's field.

    Raises:
        ScanError: no numbers, or not finite.
    """
    try:
        values = [float(part) for part in text[:MAX_FIELD].split(separator)]
    except ValueError:
        values = [math.inf]
    if not values or any(math.isinf(v) or (math.isnan(v) and not nan) or abs(v) > 1e7 for v in values):
        raise ScanError(f"{text[:60]!r} where finite numbers should be", path=path, remedy=AGAIN)
    return values


def millimetres(unit: str, path: Path) -> float | None:
    """Millimetres in a unit of length; None where the header does not name one.

    Raises:
        ScanError: a unit that is none of length.
    """
    name = unit.encode("latin-1").decode("utf-8", "replace").strip().strip('"').strip().lower()
    if name in UNKNOWN_UNITS:
        return None
    found = MM.get(name) or (MM.get(name.removesuffix("s")) if len(name) > 4 else None)
    if found is None:
        raise ScanError(f"the unit {unit.strip()[:40]!r} is not known", path=path, remedy="save it in mm")
    return found


def in_millimetres(header: TextHeader, scale: tuple[float, float, float]) -> TextHeader:
    """The header with its affine in mm: `scale` holds the millimetres in its units along R, A and S."""
    if scale == (1.0, 1.0, 1.0):
        return header
    affine = np.diag([*scale, 1.0]) @ header.affine
    return replace(header, affine=affine, scale=scale, notes=(*header.notes, "units are not mm: converted"))


def beside(path: Path, name: str) -> Path:
    """A data file named by a header: in its folder or below it, or it is refused."""
    inner = Path(os.path.normpath(name))
    leaves = inner.is_absolute() or os.pardir in inner.parts or "\0" in name
    data = path if leaves else path.parent / inner
    if leaves or not data.is_file():
        raise ScanError(
            f"its data file {name[:80]!r} is missing or in another folder",
            path=path,
            remedy="put both in one folder",
        )
    return data


def place_image(image: sitk.Image, affine: np.ndarray) -> None:
    """Give an image of ITK's, whose axes are LPS, the grid of an affine in RAS."""
    affine = RAS_FROM_LPS @ affine
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / steps).ravel().tolist())


def itk_path(path: Path) -> str:
    """A path for ITK. SimpleITK ends the process at one that is not Unicode.

    Raises:
        UnicodeError: it is not.
    """
    return str(path).encode().decode()


def check_with_itk(header: TextHeader, path: Path, io: str) -> None:
    """Refuse a header that ITK reads otherwise, or not at all; only headers that were checked come here.

    A 4D header that ITK does not support is not refused for that.

    Args:
        header: as it was read here.
        path: its file.
        io: "NrrdImageIO" or "MetaImageIO".

    Raises:
        ScanError: what ITK says, or what differs.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO(io)
    try:
        reader.SetFileName(itk_path(path))
        reader.ReadImageInformation()
    except UnicodeError:
        return
    except RuntimeError as error:
        if header.list_axis is not None:
            return
        said = " ".join(str(error).split()).rpartition("ITK ERROR: ")[2]
        raise ScanError(f"ITK does not read it: {said[-200:]}", path=path, remedy=AGAIN) from None
    difference = _difference(header, reader)
    if difference:
        raise ScanError(f"contradicts itself: ITK reads another {difference}", path=path, remedy=AGAIN)


def _difference(header: TextHeader, reader: sitk.ImageFileReader) -> str:
    """What ITK reads differently; "" for nothing."""
    lists = [] if header.list_axis is None else [header.shape[header.list_axis]]
    spatial = [n for axis, n in enumerate(header.shape) if axis != header.list_axis]
    dims = reader.GetDimension()
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if list(reader.GetSize()) != (spatial if dims == 3 else [*spatial, *lists]):
        return "size"
    if not lists and _PIXELS.get(reader.GetPixelID()) != header.dtype.str[1:]:
        return f"data type ({pixel})"
    steps = np.asarray(reader.GetSpacing())[:3]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (dims, dims))[:3, :3] * steps
    affine[:3, 3] = reader.GetOrigin()[:3]
    mine = np.diag([-1 / header.scale[0], -1 / header.scale[1], 1 / header.scale[2], 1]) @ header.affine
    if not header.placed:
        affine[:3, 3] = mine[:3, 3] = 0
    if np.abs(affine - mine).max() > 1e-6 * max(1.0, float(np.abs(mine).max())):
        return "geometry"
    return ""
