"""The hidden working folder beside an output: who holds it, and what dead runs left of theirs."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from pathlib import Path
from typing import IO

import psutil

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from medrecon.errors import OutputError

SUFFIX = ".medrecon-part"
NEW = "new"
_LOCK = "lock"
_OLD = "old"
_MAX_NAME = 255
_TRIES, _PAUSE = 20, 0.02


def working_folder(final: Path) -> Path:
    """The hidden sibling in which `final` is made; one for each name, so that two runs meet there."""
    name = f".{final.name}{SUFFIX}"
    if len(os.fsencode(name)) > _MAX_NAME:
        name = f".{hashlib.sha256(os.fsencode(final.name)).hexdigest()[:32]}{SUFFIX}"
    return final.with_name(name)


class FolderLock:
    """An exclusive hold on a working folder, which ends with the process that has it.

    Args:
        folder: the working folder; made where it is missing, emptied where a dead run left it.
        final: the output that it is for, named in the error.

    Raises:
        OutputError: a live run holds the folder.
    """

    def __init__(self, folder: Path, final: Path) -> None:
        self.folder, self.final = folder, final
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the folder, or refuse when another run is at work in it."""
        for _ in range(_TRIES):
            self.folder.mkdir(exist_ok=True)
            try:
                file = (self.folder / _LOCK).open("a+", encoding="ascii")
            except FileNotFoundError:  # the holder has just finished and removed it
                continue
            if not _take(file):
                file.seek(0)
                holder = file.read(200).strip()
                file.close()
                if not holder:  # it has just started, or is a sweep that ends at once
                    time.sleep(_PAUSE)
                    continue
                raise OutputError(
                    f"another run is writing it ({holder})",
                    path=self.final,
                    remedy="wait for it to end, or choose another output",
                )
            if not _is_at(file, self.folder / _LOCK):
                file.close()
                continue
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            self._file = file
            restore(self.folder, self.final)
            _remove(self.folder / NEW)
            return
        raise OutputError("another run keeps taking it", path=self.final, remedy="choose another output")

    def release(self) -> None:
        """Remove the folder with all that is left in it, and let go of it."""
        if self._file is None:
            return
        restore(self.folder, self.final)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._file.close()
        self._file = None


def put_aside(folder: Path, final: Path) -> None:
    """Move an old output into the working folder; `restore` brings it back unless a new one stands there."""
    (folder / (_OLD + ".name")).write_bytes(os.fsencode(final.name))
    final.rename(folder / _OLD)


def restore(folder: Path, final: Path) -> None:
    """Bring an old output back that a dead or failed run had put aside and not yet replaced."""
    old = folder / _OLD
    if os.path.lexists(old) and not os.path.lexists(final):
        old.rename(final)


def sweep(parent: Path) -> None:
    """Remove the working folders in `parent` whose runs are dead; those of live runs stay."""
    for folder in parent.glob(f".*{SUFFIX}"):
        try:
            with (folder / _LOCK).open("a+", encoding="ascii") as file:
                if not _take(file) or not _is_at(file, folder / _LOCK):
                    continue
                name = folder / (_OLD + ".name")
                if name.is_file():
                    restore(folder, parent / Path(os.fsdecode(name.read_bytes())).name)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _take(file: IO[str]) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: go by the process number
            return _holder_is_dead(file)
        return True
    return _holder_is_dead(file)


def _holder_is_dead(file: IO[str]) -> bool:
    file.seek(0)
    words = file.read(200).split()
    if len(words) < 4 or words[3] != socket.gethostname():
        return not words
    return int(words[1]) == os.getpid() or not psutil.pid_exists(int(words[1]))


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of that name: its folder may have been swept meanwhile."""
    try:
        here = path.stat()
    except OSError:
        return False
    mine = os.fstat(file.fileno())
    return (here.st_ino, here.st_dev) == (mine.st_ino, mine.st_dev)
