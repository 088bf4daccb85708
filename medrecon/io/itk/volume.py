"""NRRD and MetaImage files as scans."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.files.inflate import FREE_BYTES, MAX_RATIO
from medrecon.io.files.stamp import Stamp, check_unchanged, stamp_of
from medrecon.io.geometry import straighten
from medrecon.io.itk.header import AGAIN, TextHeader, parse_meta, parse_nrrd
from medrecon.io.scan import ReadOptions, Scan, ScanError, scan_key
from medrecon.io.voxels import check_finite, is_constant, narrow, pick_volume


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
    if min(header.shape) < 1:
        raise ScanError(f"impossible sizes {list(header.shape)}", path=path, remedy=AGAIN)
    spatial = [n for axis, n in enumerate(header.shape) if axis != header.list_axis] + [1]
    lists = [] if header.list_axis is None else [header.shape[header.list_axis]]
    shape = (spatial[0], spatial[1], spatial[2])
    _check_size(header, path, options)
    chosen = pick_volume((*shape, *lists), volume, path)
    several = bool(lists) and lists[0] > 1
    affine, said = straighten(header.affine, shape, "grid", path)
    return Scan(
        path=path,
        format="nrrd" if nrrd else "mha",
        files=(path,),
        shape=shape,
        affine=affine,
        key=scan_key(str(path.resolve()), volume if several else None),
        description=path.stem,
        volume=chosen if several else None,
        notes=(*header.notes, *said),
        options=options,
        recipe=TextRecipe(header, stamp_of(header.data_path), chosen),
    )


def _check_size(header: TextHeader, path: Path, options: ReadOptions) -> None:
    need = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    there = header.data_path.stat().st_size - header.offset
    if need > options.max_bytes:
        raise ScanError(
            f"the voxels take {need >> 20} MiB, the limit is {options.max_bytes >> 20} MiB",
            path=path,
            remedy="raise the limit (max_bytes) if the file is real",
        )
    if need > there and not header.packed:
        raise ScanError(f"cut short: {need} bytes are needed, {there} are there", path=path, remedy=AGAIN)
    if header.packed and need > max(FREE_BYTES, MAX_RATIO * there):
        raise ScanError(
            f"the header announces {need} bytes, {there} compressed ones are there: a bomb or broken",
            path=path,
            remedy="save it uncompressed if it is real",
        )


def read_text(scan: Scan) -> tuple[np.ndarray, list[str]]:
    """The voxels (X, Y, Z) and what was noticed.

    Raises:
        ScanError: data cut short, wrong check sum, NaN or Inf.
    """
    recipe: TextRecipe = scan.recipe
    header = recipe.header
    need = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    check_unchanged(header.data_path, recipe.stamp)
    try:
        with header.data_path.open("rb") as stream:
            stream.seek(header.offset)
            raw = _unpack(stream.read(), need) if header.packed else stream.read(need)
    except (OSError, zlib.error, EOFError) as error:
        raise ScanError(
            f"broken or cut short ({error})", path=scan.path, remedy="fetch the file again"
        ) from None
    if len(raw) != need:
        raise ScanError(f"holds {len(raw)} bytes of voxels instead of {need}", path=scan.path, remedy=AGAIN)
    values = np.frombuffer(raw, header.dtype).astype(header.dtype.newbyteorder("="))
    values = values.reshape(header.shape, order="F")
    if header.list_axis is not None:
        values = np.take(values, recipe.volume, axis=header.list_axis)
    values, notes = check_finite(values.reshape(scan.shape, order="F"), scan)
    if is_constant(values):
        notes.append("all voxels have the same value")
    return narrow(values), notes


def _unpack(data: bytes, need: int) -> bytes:
    """Unpack gzip members or a zlib stream, check sums verified, at most a little more than needed."""
    parts, total = [], 0
    while data and total <= need:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        parts.append(unpacker.decompress(data, need - total + 1))
        total += len(parts[-1])
        if total <= need and not unpacker.eof:
            parts.append(unpacker.decompress(unpacker.unconsumed_tail, 1))
            total += len(parts[-1])
            if not unpacker.eof:
                raise EOFError("the compressed data are cut short")
        data = unpacker.unused_data.lstrip(b"\0\n")
    return b"".join(parts)
