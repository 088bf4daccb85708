"""Why a process of a training failed: written by it, handed on by torchrun, read by who launched it.

The files are torchrun's (torch.distributed.elastic.multiprocessing.errors), with our error beside its text.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from medrecon.errors import (
    MedreconError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    UsageError,
    cannot_write,
    causes_of,
    in_short,
    known_cause,
    ran_out_of,
    told_as,
)
from medrecon.io import ScanError

_KINDS = {kind.__name__: kind for kind in (ModelError, OutputError, ScanError, UsageError, OutOfMemoryError)}
_LEFT_BEHIND = (
    "Connection reset",
    "Connection closed",
    "gloo",
    "NCCL",
    "Broken pipe",
    "killed by signal",  # a process that prepares samples
    "exited unexpectedly",
    "SignalException",  # torchrun was told to end
)
"""What is said by a process whose fellow went away: no reason of its own."""

_LATER = 60
"""Seconds by which such a process dates its error: torchrun takes the earliest one, in whole seconds."""


def describe(error: BaseException) -> dict[str, Any]:
    """The content of a process's error file.

    Args:
        error: what it ended with.
    """
    kind, text = _told(error)
    others = kind == MedreconError.__name__ and _is_left_behind(text)
    callstack = "".join(traceback.format_exception(error))
    when = str(int(time.time()) + (_LATER if others else 0))
    extra = {"py_callstack": callstack, "timestamp": when}
    return {
        "message": {"message": f"{kind}: {text}", "extraInfo": extra},
        "error": None if others else {"kind": kind, "text": text},
    }


def _told(error: BaseException) -> tuple[str, str]:
    """The kind of error that it is to the user, and its line."""
    known = known_cause(error)
    if known is not None:
        return type(known).__name__, _unwrapped(known)
    chain = causes_of(error)
    if any(ran_out_of(link) == "memory" for link in chain):
        remedy = "lower it with --set batch_size=1"
        return OutOfMemoryError.__name__, f"not enough memory for this training; {remedy}"
    if any(map(cannot_write, chain)):
        return OutputError.__name__, "the disk is full; free space there, then start it again"
    last = chain[-1]
    return MedreconError.__name__, f"{type(last).__name__}: {in_short(_unwrapped(last), 300)}"


def _unwrapped(error: BaseException) -> str:
    """Its text; of one that a process of samples raised, without the traceback that torch puts around it."""
    text = str(error)
    if "Original Traceback" not in text:
        return text
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip()


def _is_left_behind(text: str) -> bool:
    return any(word in text for word in _LEFT_BEHIND)


def empty_folder(folder: Path) -> None:
    """Make the place for the error files of an attempt; it is its owner's alone, as they name scans.

    Raises:
        OutputError: it cannot be made.
    """
    forget(folder)
    with told_as(OutputError, path=folder):
        folder.mkdir(mode=0o700, parents=True)


def forget(folder: Path) -> None:
    """Remove the error files."""
    shutil.rmtree(folder, ignore_errors=True)


def read_cause(folder: Path, log: Path) -> MedreconError | None:
    """Why an attempt failed by its own fault: the earliest error of all machines; None where it was killed.

    Args:
        folder: of the error files.
        log: what the processes wrote, which the error points to.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # cut: killed while it wrote
            data = json.loads(file.read_text("utf-8"))
            found.append((int(data["message"]["extraInfo"]["timestamp"]), data))
    if not found:
        return _no_room(log.parent)
    data = min(found, key=lambda item: item[0])[1]
    text = str(data["message"]["message"])
    if "error" not in data:  # torchrun's own
        return (
            None
            if _is_left_behind(text)
            else MedreconError(in_short(text, 300), path=log, remedy="see its end")
        )
    if data["error"] is None:
        return None
    kind, text = data["error"]["kind"], data["error"]["text"]
    if kind in _KINDS:
        return _KINDS[kind](text, remedy=f"see {log}")
    return MedreconError(text, path=log, remedy="see its end")


def _no_room(folder: Path) -> OutputError | None:
    """The error of a folder that takes no more: then no process could say so."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(1 << 16))
    except OSError as error:
        if cannot_write(error):
            return OutputError(
                "the disk is full", path=folder, remedy="free space there, then start it again"
            )
    return None
