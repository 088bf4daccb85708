"""From any exception to one line and an exit code."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from medrecon.errors import (
    MedreconError,
    OutOfMemoryError,
    OutputError,
    ScanError,
    UsageError,
    cannot_write,
    causes_of,
    in_short,
    known_cause,
    ran_out_of,
)

PARTIAL = 8
"""Exit code when some scans of several failed."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM, as shells have them."""


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
        return asdict(self)


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
    short = next(filter(None, map(ran_out_of, chain)), "")
    if short:
        remedy = "close other programs, ask for fewer layers at once, or use another --device"
        if short != "memory":
            remedy = "close other programs, or raise the limits of this user (ulimit -u, ulimit -n)"
        return Fault(None, f"not enough {short} for this", remedy, OutOfMemoryError.exit_code)
    for link in chain:
        if isinstance(link, RecursionError):
            remedy = "get the file again: nothing real is nested so"
            return Fault(None, "something it reads is nested too deeply", remedy, ScanError.exit_code)
        said = cannot_write(link)
        if said and isinstance(link, OSError) and link.filename is not None:
            return Fault(
                str(link.filename), f"cannot write: {said}", "free space there", OutputError.exit_code
            )
        if said:
            return Fault(None, f"cannot write: {said}", "free space", OutputError.exit_code)
    said = in_short(chain[-1], 300) or "no message"
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
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "medrecon"
    return Fault(None, message[:1].lower() + message[1:], f"see {command} --help", UsageError.exit_code)
