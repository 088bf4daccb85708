"""The errors that a user meets: each names the file, what is wrong and what to do, and has an exit code."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
"""Codes that colour or steer a terminal (ECMA-48)."""


_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate")
_SHORT_OF = {
    errno.ENOMEM: "memory",
    errno.EAGAIN: "threads or processes",
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
}

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


class MedreconError(Exception):
    """An expected failure, told in one line: `path: message; remedy`.

    Args:
        message: what is wrong.
        path: the file or folder it is about.
        remedy: what the user can do.
    """

    exit_code = 7

    def __init__(self, message: str, *, path: str | Path | None = None, remedy: str = "") -> None:
        self.message = message
        self.path = None if path is None else Path(path)
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        line = self.message if self.path is None else f"{self.path}: {self.message}"
        if self.remedy:
            line = f"{line}; {self.remedy}"
        return " ".join(line.split())

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.path, self.remedy))


def _rebuild(kind: type[MedreconError], message: str, path: Path | None, remedy: str) -> MedreconError:
    """Unpickle an error: it crosses process borders when a worker refuses a scan."""
    return kind(message, path=path, remedy=remedy)


class UsageError(MedreconError):
    """The command or its options do not make sense."""

    exit_code = 2


class ScanError(MedreconError, ValueError):
    """A scan that is refused: broken, ambiguous, only to be guessed at, or too little for a network."""

    exit_code = 3


class ModelError(MedreconError):
    """A model, its weights, its layers or its configuration cannot be used."""

    exit_code = 4


class OutputError(MedreconError):
    """The result cannot be written."""

    exit_code = 5


class OutOfMemoryError(MedreconError):
    """The work does not fit the memory there is."""

    exit_code = 6


@contextlib.contextmanager
def told_as(
    kind: type[MedreconError],
    what: str = "cannot be written",
    *,
    path: str | Path | None = None,
    remedy: str = "choose another output",
) -> Iterator[None]:
    """Within: what the system refuses is an error of ours, "cannot be written: Permission denied".

    Raises:
        MedreconError: of this kind; where the disk is full the remedy begins with that.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = f"free space or {remedy}" if full else remedy
        raise kind(f"{what}: {error.strerror or error}", path=path, remedy=remedy) from error


def causes_of(error: BaseException) -> list[BaseException]:
    """The exception and what it was raised from, outermost first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    return chain


def known_cause(error: BaseException) -> MedreconError | None:
    """The error of ours that an exception is, or was raised from; None if there is none."""
    return next((link for link in causes_of(error) if isinstance(link, MedreconError)), None)


def ran_out_of(error: BaseException) -> str:
    """What the system had no more of, if an exception says so: "memory", "threads", "open files"; else ""."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if isinstance(error, OSError) and error.errno in _SHORT_OF:
        return _SHORT_OF[error.errno]
    if isinstance(error, RuntimeError) and any(said in words for said in _NO_MEMORY):
        return "memory"
    return "threads" if isinstance(error, RuntimeError) and "can't start new thread" in words else ""


def is_networks_own(error: BaseException) -> bool:
    """Whether what a stranger's network raised is its own: no error of ours, no want of memory."""
    chain = causes_of(error)
    return not known_cause(error) and not any(isinstance(e, OSError) or ran_out_of(e) for e in chain)


def cannot_write(error: BaseException) -> str:
    """What the system says of a place that takes no more, if an exception says so; else ""."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return str(error.strerror)
    if "No usable temporary directory" in str(error) or "PytorchStreamWriter failed" in str(error):
        return in_short(error)
    return ""


def in_short(said: object, longest: int = 160) -> str:
    """What a library says, for the middle of a line: its first line, no escape codes, cut between words."""
    lines = _ESCAPE.sub("", str(said)).strip().splitlines() or [type(said).__name__]
    text = " ".join(lines[0].split())
    if len(text) <= longest:
        return text
    return f"{text[:longest].rsplit(' ', 1)[0].rstrip('.,;:( ')} ..."


def near(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: `: did you mean 'a' or 'b'?`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f": did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
