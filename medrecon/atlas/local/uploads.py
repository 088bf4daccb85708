"""What a browser hands over: files of one scan, in a private folder, within bounds."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from medrecon.errors import UsageError

MOST_BYTES = 8 << 30
"""Bytes of one upload, all files together."""

MOST_FILES = 20_000
"""Files of one upload: a study of thin slices has a few thousand."""

_PIECE = 1 << 20
_LONGEST = 80  # characters of a name


class Uploads:
    """Uploads in a temporary folder that only its owner can read; `close` removes it.

    Args:
        most_bytes: of one upload.
        most_files: of one upload.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
        self.most_bytes, self.most_files = most_bytes, most_files
        self._root = Path(tempfile.mkdtemp(prefix="medrecon-open-"))
        self._sizes: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def begin(self) -> str:
        """A new upload; returns its name, which cannot be guessed."""
        name = secrets.token_hex(16)
        (self._root / name).mkdir()
        self._sizes[name] = self._counts[name] = 0
        return name

    def folder(self, name: str) -> Path:
        """Where the files of an upload lie; what is one file alone is that file.

        Raises:
            UsageError: there is no such upload, or nothing in it.
        """
        if name not in self._sizes:
            raise UsageError("there is no such upload", remedy="choose the scan again")
        files = sorted((self._root / name).iterdir())
        if not files:
            raise UsageError("nothing was uploaded", remedy="choose a file or a folder")
        return files[0] if len(files) == 1 else self._root / name

    def add(self, name: str, file_name: str, stream: BinaryIO, length: int) -> None:
        """Take in one file. Only the last part of its name is used, and of that only plain characters.

        Args:
            name: of the upload.
            file_name: as the browser has it; may say anything.
            stream: its bytes.
            length: how many; no more are read.

        Raises:
            UsageError: the upload is unknown or too large, or the stream ends early.
        """
        if name not in self._sizes:
            raise UsageError("there is no such upload", remedy="choose the scan again")
        if length < 0 or self._sizes[name] + length > self.most_bytes:
            raise UsageError(
                f"the upload is larger than {self.most_bytes / 2**30:.3g} GiB", remedy="use the command line"
            )
        if self._counts[name] >= self.most_files:
            raise UsageError(f"more than {self.most_files:,} files", remedy="use the command line")
        self._sizes[name] += length
        self._counts[name] += 1
        target = self._root / name / plain_name(file_name)
        if target.exists():
            target = target.with_name(f"{self._counts[name]:06d}_{target.name}")
        left = length
        with target.open("xb") as file:
            while left:
                piece = stream.read(min(left, _PIECE))
                if not piece:
                    break
                file.write(piece)
                left -= len(piece)
        if left:
            target.unlink()
            raise UsageError("the upload was cut short", remedy="choose the scan again")

    def drop(self, name: str) -> None:
        """Remove an upload."""
        if self._sizes.pop(name, None) is not None:
            self._counts.pop(name)
            shutil.rmtree(self._root / name, ignore_errors=True)

    def close(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._root, ignore_errors=True)


def plain_name(text: str) -> str:
    """A file name of letters, digits, dots, dashes and underscores, with its ending kept."""
    last = re.split(r"[/\\]", text)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".") or "file"
    return plain[-_LONGEST:].lstrip(".") or "file"
