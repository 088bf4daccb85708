"""One run of a verb: where its words go, and how it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from medrecon.cli.faults import Fault, fault_of, one_line

if TYPE_CHECKING:
    from rich.console import Console

_SIGPIPE = 141


@dataclass
class Outcome:
    """What a verb hands back.

    Attributes:
        data: the result as JSON types, printed with `--json`.
        show: prints the same for people.
        exit_code: 0, or 8 when a part failed.
    """

    data: dict[str, Any]
    show: Callable[[Console], None]
    exit_code: int = 0


@dataclass
class Session:
    """The options that every verb shares, and the two streams: results on stdout, all else on stderr."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    _until_the_end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def shows_progress(self) -> bool:
        """Whether bars are drawn: only for a person who watches."""
        return not self.quiet and not self.json and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A line on stderr, unless quiet or JSON."""
        if not self.quiet and not self.json:
            print(one_line(text), file=sys.stderr, flush=True)  # noqa: T201 - the command line speaks here

    def begin(self, text: str) -> None:
        """The first line for a person who watches, before anything slow is imported."""
        if self.shows_progress:
            self.say(text)

    def folder_of(self, source: Path) -> Path:
        """The source itself, or for a zip file the folder that it is unpacked to until the verb ends.

        Raises:
            ScanError: the zip file cannot be trusted or read.
            OutputError: there is no place to unpack it.
        """
        from medrecon.io.files.archive import is_zip, unpacked

        return self._until_the_end.enter_context(unpacked(source)) if is_zip(source) else source

    def complain(self, fault: Fault, error: BaseException) -> None:
        """The one line of an error, on stderr, with its traceback if that was asked for."""
        if self.debug:
            traceback.print_exception(error)
        print(f"medrecon: {fault.line()}", file=sys.stderr, flush=True)  # noqa: T201

    def run(self, work: Callable[[], Outcome]) -> None:
        """Do the work, print what came of it, and leave with its exit code.

        Raises:
            typer.Exit: always; the code is 0, or that of the error.
        """
        code = 0
        try:
            with self._quietened(), self._until_the_end:
                outcome = work()
            self._print(outcome)
            code = outcome.exit_code
        except BrokenPipeError:
            _abandon_stdout()
            code = _SIGPIPE
        except (Exception, KeyboardInterrupt) as error:
            code = self.fail(error)
        raise typer.Exit(code)

    def fail(self, error: BaseException) -> int:
        """Tell an error in one line (and as data), and return its exit code."""
        return self.fail_with(fault_of(error), error)

    def fail_with(self, fault: Fault, error: BaseException) -> int:
        """The same for an error whose line is made already."""
        self.complain(fault, error)
        if self.json:
            try:
                self._print_json({"error": fault.data()})
            except BrokenPipeError:
                _abandon_stdout()
        return fault.exit_code

    def _print(self, outcome: Outcome) -> None:
        if self.json:
            self._print_json(outcome.data)
            return
        from rich.console import Console

        width = None if self.stdout.isatty() else 200
        outcome.show(Console(file=self.stdout, width=width, highlight=False, markup=False, emoji=False))
        self.stdout.flush()

    def _print_json(self, data: dict[str, Any]) -> None:
        json.dump(data, self.stdout, indent=2)
        self.stdout.write("\n")
        self.stdout.flush()

    @contextlib.contextmanager
    def _quietened(self) -> Iterator[None]:
        """Keep what libraries print off stdout, and their warnings for `--verbose`."""
        level = logging.ERROR if self.quiet else logging.INFO if self.verbose else logging.WARNING
        logging.basicConfig(level=logging.WARNING if self.verbose else logging.ERROR, format="%(message)s")
        logging.getLogger("medrecon").setLevel(level)
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr), _terminated_cleanly():
            if not (self.verbose or self.debug):
                warnings.simplefilter("ignore")
            yield


@contextlib.contextmanager
def _terminated_cleanly() -> Iterator[None]:
    """Let a batch system's SIGTERM unwind the stack, so that half-written outputs are removed."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread: nothing to install
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _abandon_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain of the closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
