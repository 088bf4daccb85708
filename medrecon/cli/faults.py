"""From any exception to one line and an exit code."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Any

from medrecon.errors import MedreconError, OutOfMemoryError, OutputError, UsageError, causes_of, known_cause

PARTIAL = 8
"""Exit code when some scans of several failed."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate")


@dataclass(frozen=True)
class Fault:
    """An error as the user gets it.

    Attributes:
        path: the file or folder that it is about, or None.
        message: what is wrong.
        remedy: what to do, or "".
        exit_code: the code that the process ends with.
    """

    path: str | None
    message: str
    remedy: str
    exit_code: int

    def line(self) -> str:
        """`path: message; remedy` in one line that a terminal can show as it is."""
        text = self.message if self.path is None else f"{self.path}: {self.message}"
        return one_line(f"{text}; {self.remedy}" if self.remedy else text)

    def data(self) -> dict[str, object]:
        """The same, for `--json`."""
        return {
            "path": self.path,
            "message": self.message,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


def one_line(text: str) -> str:
    """The text on one line, with characters that could steer a terminal replaced by '?'."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def fault_of(error: BaseException) -> Fault:
    """What to tell the user of an exception, our own error found inside the wrappers that MONAI adds."""
    known = known_cause(error)
    if known is not None:
        path = None if known.path is None else str(known.path)
        return Fault(path, known.message, known.remedy, known.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Fault(None, "interrupted", "", INTERRUPTED)
    chain = causes_of(error)
    if any(_is_memory(link) for link in chain):
        return Fault(
            None,
            "not enough memory for this scan",
            "close other programs, ask for fewer layers at once, or use another --device",
            OutOfMemoryError.exit_code,
        )
    for link in chain:
        if isinstance(link, OSError) and link.errno in _WRITE_ERRNOS:
            path = None if link.filename is None else str(link.filename)
            return Fault(path, f"cannot write: {link.strerror}", "free space there", OutputError.exit_code)
    said = str(chain[-1]).strip() or "no message"
    return Fault(
        None,
        f"internal error: {type(chain[-1]).__name__}: {said}",
        "please report it with the output of the same command with --debug",
        MedreconError.exit_code,
    )


def usage_fault(error: Any) -> Fault:
    """A mistake on the command line, with the near names where Typer knows them.

    Args:
        error: a click exception.
    """
    message = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    message = re.sub(r" \(Possible options: (.*)\)", r": did you mean \1?", message)
    message = message.replace(". Did you mean", ": did you mean")
    command = getattr(getattr(error, "ctx", None), "command_path", "medrecon")
    return Fault(None, message[:1].lower() + message[1:], f"see {command} --help", UsageError.exit_code)


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)
