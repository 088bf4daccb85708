"""One run of a verb: where its words go, and how it ends."""

from __future__ import annotations

import contextlib
import io
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
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import typer

from medrecon.cli.faults import TERMINATED, Fault, fault_of, one_line
from medrecon.cli.log_lines import LogLines, as_json_line
from medrecon.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console

Entered = TypeVar("Entered")

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
    log_json: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    _unpacked: dict[str, str] = field(default_factory=dict)
    """The zip file that each folder was unpacked from: messages name what the user named."""
    _until_the_end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def shows_progress(self) -> bool:
        """Whether bars are drawn: only for a person who watches."""
        plain = not (self.quiet or self.json or self.log_json)
        return plain and sys.stderr is not None and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A line on stderr, unless quiet or JSON."""
        if not self.quiet and not self.json:
            self._tell(one_line(text))

    def note(self, *notes: str) -> None:
        """The same for what was noticed, a line each."""
        for note in notes:
            self.say(f"note: {note}")

    def _tell(self, line: str, level: int = logging.INFO) -> None:
        """Print a line on stderr; where that is closed or full, there is nobody to tell."""
        for folder, zip_file in self._unpacked.items():
            line = line.replace(folder, zip_file)
        line = as_json_line(line, level) if self.log_json else line
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                print(line, file=sys.stderr, flush=True)  # noqa: T201 - the command line speaks here

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

        if not is_zip(source):
            return source
        folder = self._until_the_end.enter_context(unpacked(source))
        self._unpacked[str(folder)] = str(source)
        return folder

    def until_the_end(self, context: contextlib.AbstractContextManager[Entered]) -> Entered:
        """Enter a context, which is left when the verb ends."""
        return self._until_the_end.enter_context(context)

    def complain(self, fault: Fault, error: BaseException) -> None:
        """The one line of an error, on stderr, with its traceback if that was asked for."""
        if self.debug and sys.stderr is not None:
            traceback.print_exception(error)
        self._tell(fault.line() if self.log_json else f"medrecon: {fault.line()}", logging.ERROR)

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
        except SystemExit as ended:
            if ended.code == TERMINATED:
                self._tell("medrecon: terminated")
            raise
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
            except (BrokenPipeError, OutputError):  # stderr has the line
                _abandon_stdout()
        return fault.exit_code

    def _print(self, outcome: Outcome) -> None:
        if self.json:
            self._print_json(outcome.data)
            return
        from rich.console import Console

        with self._printing() as stdout:
            width = None if stdout.isatty() else 200
            outcome.show(Console(file=stdout, width=width, highlight=False, markup=False, emoji=False))

    def _print_json(self, data: dict[str, Any]) -> None:
        with self._printing() as stdout:
            json.dump(data, stdout, indent=2)
            stdout.write("\n")

    @contextlib.contextmanager
    def _printing(self) -> Iterator[TextIO]:
        """Results go to stdout; the files that a verb wrote are whole in any case.

        Raises:
            BrokenPipeError: its reader has gone.
            OutputError: it is closed, or its disk is full.
        """
        try:
            if self.stdout is None:
                raise ValueError("it is closed")
            yield self.stdout
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            _abandon_stdout()
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise OutputError(
                f"the result cannot be printed on stdout: {reason}", remedy="what it wrote to files is whole"
            ) from error

    @contextlib.contextmanager
    def _quietened(self) -> Iterator[None]:
        """Keep what libraries print off stdout, and their warnings for `--verbose`."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII alone shows escapes
                stream.reconfigure(errors="backslashreplace")
        level = logging.ERROR if self.quiet else logging.INFO if self.verbose else logging.WARNING
        handler = logging.StreamHandler()
        handler.setFormatter(LogLines(as_json=self.log_json))
        logging.basicConfig(level=logging.WARNING if self.verbose else logging.ERROR, handlers=[handler])
        logging.getLogger("medrecon").setLevel(level)
        with warnings.catch_warnings(), contextlib.redirect_stdout(_stderr()), _terminated_cleanly():
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


def _stderr() -> TextIO:
    """Where libraries may print to, also when stderr is closed."""
    return sys.stderr if sys.stderr is not None else Path(os.devnull).open("w", encoding="utf-8")


def _abandon_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain of the closed pipe."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
