"""A text file that appears under its name whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from medrecon.errors import OutputError


def write_whole(path: Path, text: str) -> Path:
    """Write a text as UTF-8, its line ends as they are; what was there before is replaced in one rename.

    Args:
        path: the file; missing parents are made.
        text: its content; bytes of file names that are no Unicode stand there as escapes.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written; what was there before stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}", path=path, remedy="choose another output"
        ) from error
    return path
