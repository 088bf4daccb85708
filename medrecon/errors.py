"""The errors that a user meets: each names the file, what is wrong and what to do, and has an exit code."""

from __future__ import annotations

from pathlib import Path


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


class ModelError(MedreconError):
    """A model, its weights, its layers or its configuration cannot be used."""

    exit_code = 4


class OutputError(MedreconError):
    """The result cannot be written."""

    exit_code = 5


class OutOfMemoryError(MedreconError):
    """The work does not fit the memory there is."""

    exit_code = 6
