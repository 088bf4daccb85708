"""Scan after scan: finding them, and going on when one fails."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

from medrecon.cli.faults import PARTIAL, Fault, fault_of, one_line
from medrecon.cli.options import ManyScans, OneScan
from medrecon.cli.session import Session
from medrecon.cli.tables import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.io.scan import Found, LeftOut, Scan

Done = TypeVar("Done")


def find_asked(session: Session, source: Path, reading: ManyScans) -> Found:
    """The scans of a source, which may be a zip file, read as asked for.

    Raises:
        ScanError: nothing can be read, or series lie side by side and one must be chosen.
        UsageError: the options do not suit the scans.
    """
    from medrecon.io import find_scans
    from medrecon.io.choices import named_from_source, refuse_mixed, with_hu

    found = find_scans(session.folder_of(source), **reading.options)
    found = named_from_source(found) if reading.names_from_source else found
    if not reading.all_series:
        refuse_mixed(found)
    return replace(found, scans=tuple(with_hu(scan) if reading.hu else scan for scan in found.scans))


def find_one_asked(session: Session, source: Path, reading: OneScan) -> Scan:
    """The one scan of a source, read as asked for.

    Raises:
        ScanError: nothing can be read, or there are several.
        UsageError: the options do not suit the scan.
    """
    from medrecon.io import find_one
    from medrecon.io.choices import with_hu

    scan = find_one(session.folder_of(source), **reading.options)
    scan = with_hu(scan) if reading.hu else scan
    return replace(scan, named_from_source=reading.names_from_source)


def as_told(session: Session, scans: Iterable[Scan], *places: Path) -> tuple[Scan, ...]:
    """The scans, those in HU of which the manifest of an earlier run in one of these places says so."""
    from medrecon.io.choices import with_hu
    from medrecon.io.hounsfield import told_hu

    told = []
    for scan in scans:
        manifest = told_hu(scan, places)
        if manifest is not None:
            say_note(session, scan, f"taken as HU, as the run of {manifest.name} was told")
        told.append(scan if manifest is None else with_hu(scan))
    return tuple(told)


def say_notes(session: Session, found: Found) -> None:
    """Say what was noticed about the scans' headers."""
    for scan in found.scans:
        for note in scan.notes:
            say_note(session, scan, note)


def say_note(session: Session, scan: Scan, note: str) -> None:
    """Say what was noticed about one scan."""
    session.note(f"{called(scan, sys.stderr)}: {note}")


def called(scan: Scan, stream: IO[str] | None) -> str:
    """What a line or a table calls a scan: by its path for a person at a terminal, or where the user asked.

    What goes into a file or a pipe is handed on: there it is `scan_label`, which holds no name.
    """
    from medrecon.io.files.names import scan_label

    seen = scan.named_from_source or (stream is not None and stream.isatty())
    return str(scan.path) if seen else scan_label(scan)


def names_of(scan: Scan) -> dict[str, Any]:
    """What tells a scan's name, for `--json`: nothing, unless the user asked for it."""
    return {"path": str(scan.path)} if scan.named_from_source else {}


def tell_sources(found: Found, output: Path) -> Path | None:
    """Write which of several scans is which, for the user alone; None where there is nothing to tell.

    Raises:
        OutputError: it cannot be written.
    """
    from medrecon.io.files.sources import write_sources

    if len(found.scans) + len(found.refused) < 2 or any(scan.named_from_source for scan in found.scans):
        return None
    return write_sources(output, found.scans, left_out=found.left_out, refused=found.refused)


@dataclass(frozen=True)
class Ended(Generic[Done]):
    """What became of the scans of a command.

    Attributes:
        found: all of them, and what was none.
        records: of those that went well.
        failures: the faults of the others.
        sources: the file that says which scan is which; None where there is none.
        named: names were asked for.
    """

    found: Found
    records: list[Done]
    failures: list[Fault]
    sources: Path | None
    named: bool

    @property
    def exit_code(self) -> int:
        """As `exit_code`."""
        return exit_code(bool(self.records), self.failures)

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` has of any command."""
        return {
            "sources": None if self.sources is None else str(self.sources),
            "failed": [fault.data() for fault in self.failures],
            "left_out": left_out_data(self.found.left_out, self.named),
        }

    def show_failures(self, console: Console) -> None:
        """A table of what failed, and why."""
        if self.failures:
            print_table(console, ("failed", "why"), [(each.path, each.message) for each in self.failures])

    def show_sources(self, console: Console, session: Session) -> None:
        """Where it says which scan is which."""
        if self.sources is not None and not session.quiet:
            console.print(f"which scan is which, for you alone: {one_line(str(self.sources))}")


def one_by_one(
    session: Session, found: Found, work: Callable[[Scan, str], Done]
) -> tuple[list[Done], list[Fault]]:
    """Do the work on each scan, and complain of those that are refused or fail.

    Args:
        session: where words go.
        found: the scans.
        work: gets a scan and what to call it, "2/3 t1.nii.gz".

    Returns:
        What came of the scans that went well, and the faults of the others.

    Raises:
        Exception: what the work on the only scan raised.
    """

    def attempts() -> Iterator[tuple[Scan, Done | Exception]]:
        for number, scan in enumerate(found.scans, start=1):
            try:
                yield scan, work(scan, label_of(number, found))
            except Exception as error:
                yield scan, error

    return tell_each(session, found, attempts())


def label_of(number: int, found: Found) -> str:
    """What a bar, or a log, calls one of the scans, counted from 1: "2/3 t1.nii.gz", "2/3 CT_1f2e3d4c"."""
    return f"{number}/{len(found.scans)} {Path(called(found.scans[number - 1], sys.stderr)).name}"


def tell_each(
    session: Session, found: Found, outcomes: Iterable[tuple[Scan, Done | Exception]]
) -> tuple[list[Done], list[Fault]]:
    """Complain of scans that are refused or fail, as they come; the rest as `one_by_one`."""
    done: list[Done] = []
    failures: list[Fault] = []
    for refusal in found.refused:
        failures.append(fault_of(refusal))
        session.complain(failures[-1], refusal)
    for scan, outcome in outcomes:
        if not isinstance(outcome, Exception):
            done.append(outcome)
            continue
        if len(found.scans) == 1 and not found.refused:
            raise outcome
        fault = fault_of(outcome)
        failures.append(fault if fault.path is not None else replace(fault, path=str(scan.path)))
        session.complain(failures[-1], outcome)
    return done, failures


def left_out_data(left_out: Sequence[LeftOut], named: bool) -> list[dict[str, Any]]:
    """What was no part of a scan, for `--json`: how many files for which reason, or which ones."""
    if named:
        return [{"path": str(item.path), "reason": item.reason} for item in left_out]
    from medrecon.io.files.names import hiding

    hide = hiding(item.path for item in left_out)
    counts = Counter(hide(item.reason) for item in left_out)
    return [{"files": count, "reason": reason} for reason, count in counts.items()]


def exit_code(any_done: bool, failures: list[Fault]) -> int:
    """0 when all went well, 8 when some did, and when none did the code of the first failure."""
    if not failures:
        return 0
    return PARTIAL if any_done else failures[0].exit_code
