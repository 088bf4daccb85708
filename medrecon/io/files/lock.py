"""The hidden working folder beside an output: who holds it, and what dead runs left of theirs.

Others may write beside an output. The folder is its owner's alone (0700); a link in its place is not
followed, and a folder of somebody else is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from medrecon.errors import OutputError, told_as
from medrecon.io.files.atomic import PLAIN, PRIVATE

SUFFIX = ".medrecon-part"
NEW = "new"
LOCK = "lock"
_OLD = "old"
_MAX_NAME = 255
_TRIES, _PAUSE = 20, 0.02
_FOLDER_MODE = 0o700


class _Foreign(OSError):
    """What stands in the place of ours is a link, or somebody else's."""


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
        OutputError: a live run holds the folder, or what is there is a link or somebody else's.
    """

    def __init__(self, folder: Path, final: Path) -> None:
        self.folder, self.final = folder, final
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the folder, or refuse when another run is at work in it."""
        try:
            self._acquire()
        except _Foreign as error:
            raise OutputError(
                f"{self.folder.name} beside it is {error}",
                path=self.final,
                remedy="remove that, or choose an output in a folder of your own",
            ) from None

    def _acquire(self) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(_FOLDER_MODE)
            try:
                file = _open_lock(self.folder)
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
            if not _is_at(file, self.folder / LOCK):
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


@contextlib.contextmanager
def held(final: Path) -> Iterator[None]:
    """Within: no other run is at work on an output; its parents are made where they are missing.

    Raises:
        OutputError: one is, or nothing can be written there.
    """
    with told_as(OutputError, path=final):
        final.absolute().parent.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(working_folder(final.absolute()), final)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
    """Remove the working folders in `parent` whose runs are dead; those of live runs and of others stay."""
    for folder in parent.glob(f".*{SUFFIX}"):
        try:
            with _open_lock(folder) as file:
                if not _take(file) or not _is_at(file, folder / LOCK):
                    continue
                name = folder / (_OLD + ".name")
                if name.is_file():
                    restore(folder, parent / Path(os.fsdecode(name.read_bytes())).name)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


def _open_lock(folder: Path) -> IO[str]:
    """The lock of a working folder that is ours, made where it is missing.

    Raises:
        _Foreign: the folder or the lock is a link, is somebody else's, or has a second name elsewhere.
        FileNotFoundError: the folder is gone.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise _Foreign("no folder but a link or a file")
    if not _is_ours(status, folder):
        raise _Foreign("another user's")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(_FOLDER_MODE)
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | PLAIN, PRIVATE)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink() or path.is_dir():
            raise _Foreign("a folder whose lock is a link or a folder") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or not _is_ours(status, folder):
        os.close(descriptor)
        raise _Foreign("a folder whose lock is another file")
    return os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")


def _is_ours(status: os.stat_result, folder: Path) -> bool:
    """Whether it is this user's, or of who owns the folder around it and could exchange it at any time.

    The latter holds on file systems that give all files to one user, as network drives do.
    """
    if sys.platform == "win32":
        return True
    return status.st_uid in (os.geteuid(), folder.parent.stat().st_uid)


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
    return words[1].isdigit() and (int(words[1]) == os.getpid() or not psutil.pid_exists(int(words[1])))


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of that name: its folder may have been swept meanwhile."""
    try:
        here = path.stat()
    except OSError:
        return False
    mine = os.fstat(file.fileno())
    return (here.st_ino, here.st_dev) == (mine.st_ino, mine.st_dev)
