"""Where fitted bundles are kept for the next time: the user's cache, read by nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medrecon.blocks.weights import digest
from medrecon.errors import OutputError, told_as
from medrecon.io.files.atomic import PRIVATE, write_whole

SUMS = "sums.json"
"""SHA-256 of each file of an entry: what does not match is made anew."""

_OWNER_ONLY = 0o700
_ELSEWHERE = "set XDG_CACHE_HOME to a folder of yours"
_PART, _STALE = ".fit-", 86_400.0


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/medrecon/linear`, by default in `~/.cache`; made where it is missing.

    Raises:
        OutputError: it cannot be made, or others could write into it: what lies there is run as code.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = (given if given.is_absolute() else Path.home() / ".cache") / "medrecon" / "linear"
    with told_as(OutputError, path=root, remedy=_ELSEWHERE):
        root.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
        facts = root.stat()
    owned = sys.platform == "win32" or facts.st_uid == os.getuid()
    if not owned or (facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.name == "posix"):
        raise OutputError(
            "others can write into this cache, and what lies there is run",
            path=root,
            remedy=f"chmod 700 {root}, or {_ELSEWHERE}",
        )
    return root


def is_whole(entry: Path) -> bool:
    """Whether all files of an entry are there, as they were written."""
    try:
        sums: dict[str, str] = json.loads((entry / SUMS).read_text("utf-8"))
        return bool(sums) and all(digest(entry / name) == sums[name] for name in sums)
    except (OSError, ValueError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def filling(entry: Path) -> Iterator[Path]:
    """Yields a new folder whose files become the entry when the block ends well, in one rename.

    What lies there and is not whole makes room. Where another process was quicker, its entry stays.

    Raises:
        OutputError: it cannot be written.
    """
    with told_as(OutputError, path=entry, remedy=_ELSEWHERE):
        entry.parent.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
        _sweep(entry.parent)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=entry.parent))
        try:
            yield part
            files = [path for path in sorted(part.rglob("*")) if path.is_file()]
            for path in files:
                path.chmod(PRIVATE)
            sums = {path.relative_to(part).as_posix(): digest(path) for path in files}
            write_whole(part / SUMS, json.dumps(sums, indent=1) + "\n", mode=PRIVATE)
            if not is_whole(entry):
                shutil.rmtree(entry, ignore_errors=True)
                _move(part, entry)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _move(part: Path, entry: Path) -> None:
    try:
        part.rename(entry)
    except OSError:
        if not is_whole(entry):
            raise


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed left behind, once it is a day old."""
    for part in folder.glob(f"{_PART}*"):
        with contextlib.suppress(OSError):
            if time.time() - part.lstat().st_mtime > _STALE:
                shutil.rmtree(part, ignore_errors=True)
