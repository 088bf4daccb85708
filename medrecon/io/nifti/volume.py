"""NIfTI files as scans: headers by `nifti.header`, voxels with the gzip check sum verified."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from medrecon.io.files.foreign import partner
from medrecon.io.files.inflate import check_affordable
from medrecon.io.files.stamp import Stamp, check_unchanged, stamp_of
from medrecon.io.nifti.header import EXPORT, NiftiHeader, parse
from medrecon.io.scan import ReadOptions, Scan, ScanError, scan_key
from medrecon.io.value_form import ValueForm
from medrecon.io.voxels import check_finite, is_constant, pick_volume, rescale

open_gzip: Any
packed_errors: tuple[Any, ...]
try:
    from isal import igzip, igzip_lib
except ImportError:  # pragma: no cover - only where isal has no wheel
    open_gzip, packed_errors = gzip.open, (zlib.error,)
else:
    open_gzip = igzip.open
    packed_errors = (zlib.error, igzip_lib.IsalError, OverflowError)  # the last of a header above 512 KiB

BROKEN: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, OSError, *packed_errors)
MAX_TAIL = 1 << 20
MAX_EXTENSIONS = 1 << 24


@dataclass(frozen=True)
class NiftiRecipe:
    """How the voxels are read: the header, the file that holds them and its stamp, and which volume."""

    header: NiftiHeader
    data_path: Path
    stamp: Stamp
    volume: int


def is_gzip(path: Path) -> bool:
    """Whether the content is gzipped, whatever the name says."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def nifti_scan(path: Path, volume: int | None, options: ReadOptions) -> Scan:
    """The scan of one NIfTI file (or of a header with its image file).

    Raises:
        ScanError: broken, contradicting, several volumes and none chosen, or more than the file can hold.
    """
    header = _header(path, options)
    data_path = _data_path(path) if header.paired else path
    size = data_path.stat().st_size
    need = header.offset + int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    packed = is_gzip(data_path)
    options.check_size(header.shape, header.dtype.itemsize, path)
    if not packed and need > size:
        raise ScanError(f"cut short: {need} bytes are needed, {size} are there", path=path, remedy=EXPORT)
    check_affordable(data_path, need + _made(header) if packed else need, path, packed)
    tail = [f"{size - need} bytes follow the voxels"] if not packed and size > need else []
    chosen = pick_volume(header.shape, volume, path)
    return Scan(
        path=path,
        format="nifti",
        files=(path,),
        shape=header.shape[:3],  # type: ignore[arg-type]
        affine=header.affine,
        key=scan_key(str(path.resolve()), volume),
        description=re.sub(r"(\.nii|\.hdr)?(\.gz)?$", "", path.name, flags=re.IGNORECASE),
        volume=volume if len(header.shape) > 3 else None,
        notes=(*header.notes, *tail),
        options=options,
        recipe=NiftiRecipe(header, data_path, stamp_of(data_path), chosen),
        stored=ValueForm(header.dtype.newbyteorder("="), header.slope, header.inter),
        kept=header.kept,
    )


def _made(header: NiftiHeader) -> int:
    """Bytes that the scaled values of one volume take beside the stored ones."""
    if (header.slope, header.inter) == (1, 0):
        return 0
    return int(np.prod(header.shape[:3], dtype=object)) * (4 if header.dtype.itemsize <= 2 else 8)


def read_nifti(scan: Scan) -> tuple[np.ndarray, list[str]]:
    """The voxels (X, Y, Z), scaling applied, and what was noticed.

    Raises:
        ScanError: data cut short, wrong check sum, NaN or Inf.
    """
    recipe: NiftiRecipe = scan.recipe
    header = recipe.header
    count = int(np.prod(header.shape[:3], dtype=object))
    start = header.offset + recipe.volume * count * header.dtype.itemsize
    total = header.offset + int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    values = np.empty(count, header.dtype)
    check_unchanged(recipe.data_path, recipe.stamp)
    try:
        with _open(recipe.data_path) as stream:
            _skip(stream, start)
            if _fill(stream, values) != values.nbytes:
                raise EOFError("cut short")
            _skip(stream, total - start - values.nbytes)
            if is_gzip(recipe.data_path):
                _finish(stream, scan.path)
    except BROKEN as error:
        raise ScanError(
            f"broken or cut short ({error})", path=scan.path, remedy="fetch the file again"
        ) from None
    stored = values.astype(header.dtype.newbyteorder("="), copy=False)
    stored, notes = check_finite(stored, scan)
    volume = rescale(stored.reshape(scan.shape[::-1]), header.slope, header.inter, scan.path)
    if is_constant(volume):
        notes.append("all voxels have the same value")
    return volume.transpose(2, 1, 0), notes


def _header(path: Path, options: ReadOptions) -> NiftiHeader:
    try:
        with _open(path) as stream:
            head = stream.read(544)
            header = parse(head, path, options)
            if not header.paired and head[header.size : header.size + 1] not in (b"", b"\0"):
                _check_extensions(stream, "little" if head[0] in (92, 28) else "big", header, path)
    except BROKEN as error:
        raise ScanError(f"broken or cut short ({error})", path=path, remedy="fetch the file again") from None
    return header


def _check_extensions(
    stream: IO[bytes], order: Literal["little", "big"], header: NiftiHeader, path: Path
) -> None:
    """The header extensions that are announced must fill the room before the voxels, zeros at its end apart.

    Raises:
        ScanError: the voxels start within one, or there are more than any scan has.
    """
    start, room = header.size + 4, header.offset - header.size - 4
    if room > MAX_EXTENSIONS:
        raise ScanError(f"{room >> 20} MiB of header extensions", path=path, remedy=EXPORT)
    stream.seek(start)
    text = stream.read(room)
    position = 0
    for _ in range(MAX_EXTENSIONS >> 10):
        length = int.from_bytes(text[position : position + 4], order)
        if length < 16 or position + length > len(text):
            break
        position += length
    if not position or text[position:].strip(b"\0"):
        claimed = int.from_bytes(text[position : position + 4], order)
        raise ScanError(
            f"a header extension claims {claimed} bytes, {room - position} are before the voxels",
            path=path,
            remedy=EXPORT,
        )


def _data_path(path: Path) -> Path:
    """The image file beside a header of a pair."""
    if not re.search(r"\.hdr(\.gz)?$", path.name, re.IGNORECASE):
        raise ScanError(
            "a header of a pair that is not named .hdr", path=path, remedy="rename the pair .hdr and .img"
        )
    packed = path.name.lower().endswith(".gz")
    data = partner(path, (".img.gz", ".img") if packed else (".img", ".img.gz"))
    if data is None:
        stem = re.sub(r"\.hdr(\.gz)?$", "", path.name, flags=re.IGNORECASE)
        raise ScanError(
            f"its image file {stem}.img or {stem}.img.gz is missing",
            path=path,
            remedy="put the pair together",
        )
    return data


def _open(path: Path) -> IO[Any]:
    raw = path.open("rb")
    if is_gzip(path):
        packed: IO[Any] = open_gzip(raw, "rb")
        return packed
    return raw


def _fill(stream: Any, values: np.ndarray) -> int:
    """Read into `values`; returns the bytes that were there."""
    target = memoryview(values.view(np.uint8).data)
    got = 0
    while got < len(target):
        count = stream.readinto(target[got : got + (1 << 24)])
        if not count:
            break
        got += count
    return got


def _skip(stream: IO[bytes], count: int) -> None:
    if isinstance(stream, io.BufferedReader) and not hasattr(stream, "myfileobj"):
        stream.seek(count, os.SEEK_CUR)
        return
    while count > 0:
        part = stream.read(min(count, 1 << 22))
        if not part:
            raise EOFError("cut short")
        count -= len(part)


def _finish(stream: IO[bytes], path: Path) -> None:
    """Read to the end of the gzip stream: only there the check sum is compared."""
    left = MAX_TAIL
    while part := stream.read(1 << 16):
        left -= len(part)
        if left < 0:
            raise ScanError("holds far more data than its header says", path=path, remedy=EXPORT)
