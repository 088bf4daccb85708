"""A file that appears under its name whole or not at all: every file that is not itself an output."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from medrecon.errors import OutputError, told_as

PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN
READABLE, PRIVATE = 0o666, 0o600
"""Modes: as the user's other files, less what the umask takes; for nobody but their owner."""


def write_whole(path: Path, content: str | bytes, *, mode: int = READABLE) -> Path:
    """Write a file, text as UTF-8 with its line ends as they are; what was there is replaced in one rename.

    Args:
        path: the file; missing parents are made.
        content: bytes of file names that are no Unicode stand in a text as escapes.
        mode: of the new file, less what the umask takes.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written; what was there before stays.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with replacing(path, mode=mode) as part:
        part.write_bytes(data)
    return path


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = READABLE) -> Iterator[Path]:
    """Yields an empty file beside `path`, which takes its place, flushed, when the block ends well.

    Its name cannot be foreseen, and it is made new: in a folder where others write no link of theirs is
    followed.

    Raises:
        OutputError: it cannot be written; what was there before stays.
    """
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    with told_as(OutputError, path=path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(partial, _NEW, mode))
        try:
            yield partial
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def open_private(path: Path) -> IO[bytes]:
    """Open a file to write at its end; made for nobody but its owner, and no link is followed.

    Raises:
        OutputError: it is a link, or cannot be written.
    """
    with told_as(OutputError, path=path):
        return os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | PLAIN, PRIVATE), "ab")
