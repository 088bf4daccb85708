"""Which files a source holds: nested folders without loops, pipes or devices."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from medrecon.io.files.lock import SUFFIX as WORKING
from medrecon.io.scan import LeftOut, ScanError

MAX_FILES = 1_000_000
PULLING = ".medrecon-pull"
"""What the hidden folder of a series that is on its way from a PACS ends with."""

LINK_INSIDE = "a link to a folder that is read anyway"
UNFINISHED = "an output that a run is writing or did not finish"
LINK_OUTSIDE = "a link to a folder elsewhere: name that folder to read it"


def walk(source: Path) -> Iterator[Path | LeftOut]:
    """All regular files under `source` in a fixed order, and what cannot be one, with the reason.

    Raises:
        ScanError: `source` is missing or is no file and no folder.
    """
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise ScanError(
            f"cannot be opened ({error.strerror})", path=source, remedy="check the path"
        ) from None
    except ValueError:
        raise ScanError("no path: it holds a null character", path=source, remedy="check the path") from None
    if stat.S_ISREG(mode):
        yield source
        return
    if not stat.S_ISDIR(mode):
        raise ScanError("is a pipe, socket or device", path=source, remedy="give a file or a folder")
    yield from _folder(source)


def _folder(top: Path) -> Iterator[Path | LeftOut]:
    """Everything below a folder; links to folders are not followed, they may lead to the root of the disk."""
    seen: set[tuple[int, int]] = set()
    inside = top.resolve()
    stack = [top]
    count = 0
    while stack:
        folder = stack.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                yield LeftOut(folder, "a folder that was read already")
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            yield LeftOut(folder, f"cannot be opened ({error.strerror})")
            continue
        below = []
        for entry in listed:
            count += 1
            if count > MAX_FILES:
                raise ScanError(f"more than {MAX_FILES} files", path=top, remedy="give a smaller folder")
            path = folder / entry.name
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                kind = "a link to nowhere" if entry.is_symlink() else f"cannot be opened ({error.strerror})"
                yield LeftOut(path, kind)
                continue
            if stat.S_ISDIR(mode) and entry.is_symlink():
                here = path.resolve().is_relative_to(inside)
                yield LeftOut(path, LINK_INSIDE if here else LINK_OUTSIDE)
            elif stat.S_ISDIR(mode) and entry.name.endswith((WORKING, PULLING)):
                yield LeftOut(path, UNFINISHED)
            elif stat.S_ISDIR(mode):
                below.append(path)
            elif stat.S_ISREG(mode):
                yield path
            else:
                yield LeftOut(path, "a pipe, socket or device")
        stack.extend(reversed(below))
