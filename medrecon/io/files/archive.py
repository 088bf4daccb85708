"""Zip files, as portals hand studies out: unpacked to a private folder, within bounds, then removed.

What a killed run leaves of such a folder is removed by the next one that unpacks.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from medrecon.errors import OutputError
from medrecon.io.files.inflate import FREE_BYTES, MAX_RATIO
from medrecon.io.files.lock import FolderLock, sweep, working_folder
from medrecon.io.scan import ScanError

MOST_ENTRIES = 40_000
"""Entries of a zip file; a study has thousands. So many take 4 s."""

MOST_BYTES = 64 << 30
"""What a zip file may hold unpacked; never more than half of what is free there, nor 100 times its size."""

_PIECE = 1 << 20
_END, _LONGEST_END = b"PK\x05\x06", (1 << 16) + 22
_BAD_NAMES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}
_BROKEN = (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)


def is_zip(path: Path) -> bool:
    """Whether it is a zip file by its name and its content."""
    return path.suffix.lower() == ".zip" and path.is_file() and zipfile.is_zipfile(path)


@contextlib.contextmanager
def unpacked(path: str | Path, *, most_bytes: int = MOST_BYTES) -> Iterator[Path]:
    """Within: the content of a zip file, as a folder that only its owner can read.

    Bytes are counted as they come out, whatever the headers say. Links are left out; nothing is written
    outside the folder.

    Args:
        path: the zip file.
        most_bytes: refuse more than this.

    Raises:
        ScanError: it is broken, encrypted, too large, or names places outside of itself.
        OutputError: it cannot be unpacked here.
    """
    path = Path(path)
    with _temporary() as place:
        folder = place / path.name
        free = shutil.disk_usage(place).free // 2
        try:
            folder.mkdir()
            likely = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
            _unpack(path, folder, min(most_bytes, free, likely))
        except _BROKEN as error:
            if isinstance(error, ScanError):
                raise
            raise ScanError(
                f"cannot be unpacked: {str(error) or type(error).__name__}",
                path=path,
                remedy="unpack it yourself",
            ) from error
        except OSError as error:
            if error.errno in _BAD_NAMES:
                raise ScanError(
                    f"names files that cannot be here: {error.strerror}",
                    path=path,
                    remedy="unpack it yourself",
                ) from error
            raise OutputError(
                f"cannot be unpacked to {place}: {error.strerror or error}",
                path=path,
                remedy="free space there, or set TMPDIR to another folder",
            ) from error
        yield folder


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A private folder that is gone in the end, whatever its content became."""
    final = Path(tempfile.gettempdir()) / f"medrecon-{secrets.token_hex(8)}"
    sweep(final.parent)
    lock = FolderLock(working_folder(final), final)
    lock.acquire()
    try:
        yield lock.folder
    finally:
        lock.release()


def _unpack(path: Path, folder: Path, most: int) -> None:
    left, made = most, {folder}
    _refuse_many(path, _count(path))
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _refuse_many(path, len(entries))
        for entry in entries:
            target = folder / _inside(entry.filename, path)
            if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
                continue
            if entry.flag_bits & 1:
                raise ScanError("is encrypted", path=path, remedy="unpack it yourself, with its password")
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            with archive.open(entry) as source, target.open("xb") as file:
                while piece := source.read(_PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise ScanError(
                            f"holds more than {most / 2**30:.1f} GiB",
                            path=path,
                            remedy="unpack it yourself, if you trust it",
                        )
                    file.write(piece)


def _inside(name: str, path: Path) -> PurePosixPath:
    """The name of an entry as a place in the folder.

    Raises:
        ScanError: it leads out of it.
    """
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or not inner.parts or ":" in inner.parts[0]:
        raise ScanError(
            f"names a file outside of itself: {name[:80]!r}", path=path, remedy="do not trust this file"
        )
    return inner


def _refuse_many(path: Path, count: int) -> None:
    if count > MOST_ENTRIES:
        raise ScanError(
            f"holds {count} files, more than {MOST_ENTRIES}", path=path, remedy="unpack it yourself"
        )


def _count(path: Path) -> int:
    """How many entries the end of the file says there are (PKWARE APPNOTE 4.3.16 and 4.3.14).

    The list of them is read at once by zipfile, and its size has no other bound.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LONGEST_END))
        tail = file.read()
        end = tail.rfind(_END)
        count = int.from_bytes(tail[end + 10 : end + 12], "little")
        locator = tail[end - 20 : end] if end >= 20 else b""
        if count < 0xFFFF or locator[:4] != b"PK\x06\x07":
            return count
        file.seek(int.from_bytes(locator[8:16], "little"))
        return int.from_bytes(file.read(40)[32:40], "little")
