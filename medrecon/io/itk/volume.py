"""NRRD and MetaImage files as scans.

ITK is asked about the headers, and the voxels are read here: where a compressed stream is broken, ITK's
MetaIO hands out memory that nobody wrote to.
"""

from __future__ import annotations

import math
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.files.inflate import check_affordable
from medrecon.io.files.stamp import Stamp, check_unchanged, stamp_of
from medrecon.io.geometry import straighten
from medrecon.io.itk.header import AGAIN, TextHeader
from medrecon.io.itk.metaimage import parse_meta
from medrecon.io.itk.nrrd import parse_nrrd
from medrecon.io.scan import ReadOptions, Scan, ScanError, scan_key
from medrecon.io.value_form import ValueForm
from medrecon.io.voxels import check_finite, is_constant, narrow, pick_volume

_WINDOWS = (1 << 9, 1 << 16)  # of which deflate makes 64 MiB at most


@dataclass(frozen=True)
class TextRecipe:
    """How the voxels are read."""

    header: TextHeader
    stamp: Stamp
    volume: int


def text_scan(path: Path, volume: int | None, options: ReadOptions) -> Scan:
    """The scan of one NRRD or MetaImage file.

    Raises:
        ScanError: broken, contradicting, several volumes and none chosen, or more than the file can hold.
    """
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    header = parse_nrrd(path) if nrrd else parse_meta(path)
    x, y, z = (n for axis, n in enumerate(header.shape) if axis != header.list_axis)
    lists = [] if header.list_axis is None else [header.shape[header.list_axis]]
    _check_size(header, path, options)
    chosen = pick_volume((x, y, z, *lists), volume, path)
    several = bool(lists) and lists[0] > 1
    affine, said = straighten(header.affine, (x, y, z), "grid", path)
    return Scan(
        path=path,
        format="nrrd" if nrrd else "mha",
        files=(path,),
        shape=(x, y, z),
        affine=affine,
        key=scan_key(str(path.resolve()), volume if several else None),
        description=path.stem,
        volume=chosen if several else None,
        notes=(*header.notes, *said),
        options=options,
        recipe=TextRecipe(header, stamp_of(header.data_path), chosen),
        stored=ValueForm(header.dtype.newbyteorder("=")),
    )


def _check_size(header: TextHeader, path: Path, options: ReadOptions) -> None:
    need, there = header.nbytes, header.data_path.stat().st_size - (header.offset or 0)
    options.check_size(header.shape, header.dtype.itemsize, path)
    least = (header.packed_size or 0) if header.packed else need
    if header.digits:
        least = 2 * need if header.digits == "hex" else 2 * math.prod(header.shape) - 1
    if least > there:
        raise ScanError(f"cut short: {least} bytes are needed, {there} are there", path=path, remedy=AGAIN)
    check_affordable(header.data_path, need, path, packed=header.packed)


def read_text(scan: Scan) -> tuple[np.ndarray, list[str]]:
    """The voxels (X, Y, Z) and what was noticed.

    Raises:
        ScanError: data cut short, wrong check sum, NaN or Inf.
    """
    recipe: TextRecipe = scan.recipe
    header = recipe.header
    check_unchanged(header.data_path, recipe.stamp)
    try:
        if header.digits:
            values = _from_digits(header, scan.path)
        else:
            values = _unpacked(header, scan.path) if header.packed else _plain(header, recipe.volume)
    except (OSError, zlib.error, EOFError) as error:
        raise ScanError(
            f"broken or cut short ({error})", path=scan.path, remedy="fetch the file again"
        ) from None
    if len(values) == math.prod(header.shape) and header.list_axis is not None:
        values = values.reshape(header.shape, order="F").take(recipe.volume, axis=header.list_axis)
    values = values.reshape(scan.shape, order="F").astype(header.dtype.newbyteorder("="), copy=False)
    values, notes = check_finite(values, scan)
    if is_constant(values):
        notes.append("all voxels have the same value")
    return narrow(values), notes


def _plain(header: TextHeader, volume: int) -> np.ndarray:
    """The values as they stand in the file: of one volume where the volumes stand one after the other."""
    count, skip = math.prod(header.shape), 0
    if header.list_axis == len(header.shape) - 1:
        count //= header.shape[-1]
        skip = volume * count * header.dtype.itemsize
    with header.data_path.open("rb") as stream:
        start = header.data_path.stat().st_size - header.nbytes if header.offset is None else header.offset
        stream.seek(start + skip)
        values = np.fromfile(stream, header.dtype, count)
    if len(values) != count:
        raise EOFError("cut short")
    return values


def _from_digits(header: TextHeader, path: Path) -> np.ndarray:
    """All values of a file that holds them as text: numbers between blanks, or hexadecimal bytes.

    Raises:
        ScanError: something else stands there, or numbers that the data type does not hold.
    """
    with header.data_path.open("rb") as stream:
        stream.seek(header.offset or 0)
        text = stream.read().decode("latin-1")
    kind, count = header.dtype, math.prod(header.shape)
    try:
        if header.digits == "hex":
            found = np.frombuffer(bytes.fromhex(text), kind)
        else:
            wide = np.float64 if kind.kind == "f" else np.uint64 if kind.str[1:] == "u8" else np.int64
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # at something that is no number
                found = np.fromstring(text, wide, sep=" ")
    except (ValueError, DeprecationWarning):
        raise ScanError("holds something else than numbers", path=path, remedy=AGAIN) from None
    if len(found) != count:
        raise ScanError(f"holds {len(found)} numbers instead of {count}", path=path, remedy=AGAIN)
    with np.errstate(over="ignore"):
        values = found.astype(kind)
    if kind.kind in "iu" and not np.array_equal(values, found):
        raise ScanError(f"holds numbers that {kind.name} does not", path=path, remedy=AGAIN)
    return values


def _unpacked(header: TextHeader, path: Path) -> np.ndarray:
    """All values of a compressed file, check sums verified."""
    need = header.nbytes + (header.skip or 0)
    most = header.nbytes + (1 << 20) if header.skip is None else need
    with header.data_path.open("rb") as stream:
        stream.seek(header.offset or 0)
        data = stream.read(-1 if header.packed_size is None else header.packed_size)
    raw = unpack(data, most)
    if len(raw) < need or len(raw) > most:
        raise ScanError(f"holds {len(raw)} bytes of voxels instead of {need}", path=path, remedy=AGAIN)
    start = len(raw) - header.nbytes if header.skip is None else header.skip
    return np.frombuffer(raw, header.dtype, offset=start)


def unpack(data: bytes, need: int) -> memoryview:
    """Unpack gzip members or a zlib stream, check sums verified, at most one byte more than needed.

    Args:
        data: one member after the other; a few or hundreds of thousands take a time in proportion.
        need: bytes that are meant to be there.

    Raises:
        EOFError: cut short.
        zlib.error: broken.
    """
    made, size = memoryview(bytearray(need + 1)), 0  # pages that are not filled take no memory
    view, place = memoryview(data), 0
    while place < len(view) and size <= need:
        unpacker, window = zlib.decompressobj(zlib.MAX_WBITS | 32), _WINDOWS[0]
        while not unpacker.eof and size <= need:
            if place >= len(view):
                raise EOFError("the compressed data are cut short")
            # small steps at first: what a member leaves of its window is copied
            part = unpacker.decompress(view[place : place + window], need - size + 1)
            made[size : size + len(part)] = part
            size += len(part)
            taken = min(window, len(view) - place)
            place += taken - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
            window = min(2 * window, _WINDOWS[1])
        if size > need and not unpacker.eof:
            break
        while place < len(view) and view[place] in b"\0\n":
            place += 1
    return made[:size]
