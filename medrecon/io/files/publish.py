"""An output appears under its final name whole or not at all."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from medrecon.errors import OutputError, told_as
from medrecon.io.files.lock import NEW, FolderLock, put_aside, sweep, working_folder

IMPLEMENTATION_VERSION = "MEDRECON_01"
"""ImplementationVersionName in the file meta group of what medrecon writes: it tells our series apart."""


@contextmanager
def publish(final: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Make an output beside its place, and put it there in one rename when it is complete.

    Yields a path that does not exist yet, in a hidden folder beside `final`, for the caller to make a file or
    a folder at. When the block ends well, all of it is flushed to the disk and renamed to `final`; when it
    raises, or the process dies, nothing appears under `final` (an old output stays) and the next run sweeps
    what is left.

    Args:
        final: where the output goes; missing parents are made. An empty folder counts as free.
        overwrite: replace an output that is there, once the new one is complete. A folder is only replaced
            when it holds DICOM files that medrecon wrote, in it or in folders of it, and nothing else.

    Raises:
        OutputError: it exists, another run is writing it, or the disk is full or refuses.
    """
    final = Path(final)
    check_free(final, overwrite)
    with told_as(OutputError, path=final):
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent)
        lock = FolderLock(working_folder(final), final)
        lock.acquire()
    try:
        part = lock.folder / NEW
        with told_as(OutputError, path=final):
            yield part
            _flush(part)
            check_free(final, overwrite)
            _move(part, final, lock.folder)
            _flush_folder(final.parent)
    finally:
        lock.release()


def check_free(final: Path, overwrite: bool) -> None:
    """Refuse an output that is there already and may not be replaced.

    Raises:
        OutputError: it exists and `overwrite` is off, or it is a folder that medrecon did not write.
    """
    if not os.path.lexists(final):
        return
    folder = final.is_dir() and not final.is_symlink()
    if folder and not any(final.iterdir()):
        return
    if not overwrite:
        raise OutputError("exists already", path=final, remedy="choose another output or pass --overwrite")
    if folder:
        strange = next((entry for entry in sorted(final.iterdir()) if not _is_ours(entry)), None)
        if strange is not None:
            raise OutputError(
                f"is a folder that holds what medrecon did not write ({strange.name})",
                path=final,
                remedy="choose another output; --overwrite replaces only series written by medrecon",
            )


def _is_ours(entry: Path) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return all(map(_is_ours, entry.iterdir()))
    if not entry.is_file() or entry.suffix != ".dcm":
        return False
    try:
        meta = pydicom.filereader.read_file_meta_info(entry)
    except (OSError, InvalidDicomError, ValueError, KeyError):
        return False
    return str(meta.get("ImplementationVersionName", "")).startswith("MEDRECON")


def _flush(part: Path) -> None:
    if part.is_dir():
        for entry in sorted(part.iterdir()):
            _flush(entry)
        _flush_folder(part)
        return
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move(part: Path, final: Path, working: Path) -> None:
    """One rename; over an old folder an exchange where the system has it, else two renames that a kill
    between them cannot make lose either: the next run restores the old one."""
    if not os.path.lexists(final):
        part.rename(final)
    elif final.is_dir() and not final.is_symlink():
        if not _exchange(part, final):
            put_aside(working, final)
            part.rename(final)
    else:
        part.replace(final)


def _exchange(one: Path, other: Path) -> bool:
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_cwd, exchange = -100, 2
    return call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0
