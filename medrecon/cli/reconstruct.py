"""The verb `reconstruct`: scan after scan; one that fails does not stop the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecon.cli.faults import one_line
from medrecon.cli.options import Reading
from medrecon.cli.progress import Tick, phase_bar
from medrecon.cli.scans import exit_code, find_asked, label_of, left_out_data, say_notes, tell_each
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import table
from medrecon.errors import ModelError
from medrecon.inference.pipeline import Pipeline, Record
from medrecon.inference.tiling_check import TilingCheck

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.io.scan import Scan


def reconstruct_scans(
    session: Session,
    source: Path,
    output: Path,
    *,
    layers: str | None,
    bundle: str,
    encoder_weights: Path | None,
    device: str,
    output_format: str,
    overwrite: bool,
    manifest: bool,
    reading: Reading,
    check_tiling: bool = False,
) -> Outcome:
    """Find the scans, run the bundle on each, and tell what became of them.

    `reading` says how scans are found, the others go to `medrecon.inference.pipeline.Pipeline.from_bundle`.

    Raises:
        ScanError: nothing can be read, or the one scan cannot.
        ModelError: the bundle or a layer cannot be used.
        OutputError: nothing can be written.
        UsageError: the options do not make sense.
    """
    found = find_asked(source, reading)
    pipeline = Pipeline.from_bundle(
        bundle,
        scans=found.scans,
        output=output,
        layers=layers,
        device=device,
        output_format=output_format,
        overwrite=overwrite,
        overrides=encoder_overrides(encoder_weights),
    )
    say_notes(session, found)

    checks: dict[str, TilingCheck] = {}

    labels = {scan.key: label_of(number, found) for number, scan in enumerate(found.scans, start=1)}

    @contextlib.contextmanager
    def watching(scan: Scan, begin: Callable[[str], Tick | None]) -> Iterator[Tick | None]:
        if check_tiling:
            begin(f"{labels[scan.key]}: comparing tiles with one piece")
            checks[scan.key] = _checked(pipeline, scan)
        yield begin(labels[scan.key])
        begin(f"{labels[scan.key]}: writing")

    def outcomes() -> Iterator[tuple[Scan, Record | Exception]]:
        with phase_bar(session, "reading") as begin:
            for scan, outcome in pipeline.run_each(found.scans, lambda scan: watching(scan, begin)):
                for note in outcome.notes if isinstance(outcome, Record) else ():
                    session.say(f"note: {note}")
                yield scan, outcome

    records, failures = tell_each(session, found, outcomes())
    written = None
    if manifest:
        written = pipeline.write_manifest(output, left_out=found.left_out, refused=found.refused)
    data = {
        "manifest": None if written is None else str(written),
        "bundle": pipeline.bundle.name,
        "version": pipeline.bundle.version,
        "device": str(pipeline.device),
        "results": [_record_data(record, checks) for record in records],
        "failed": [fault.data() for fault in failures],
        "left_out": left_out_data(found),
    }

    def show(console: Console) -> None:
        rows = [
            (record.scan.path, result, path, "" if number else f"{record.seconds:.1f}")
            for record in records
            for number, (result, path) in enumerate(record.outputs.items())
        ]
        if rows:
            console.print(table(("scan", "result", "written to", "seconds"), rows, right=("seconds",)))
        if failures:
            console.print(table(("failed", "why"), [(fault.path, fault.message) for fault in failures]))
        for record in records:
            if record.scan.key in checks:
                console.print(f"tiling: {one_line(str(record.scan.path))}: {checks[record.scan.key].words()}")
        if written is not None and not session.quiet:
            console.print(f"manifest: {one_line(str(written))}")
        if found.left_out and not session.quiet:
            console.print(
                f"left out: {len(found.left_out)} files that are no part of a scan (medrecon scans)"
            )

    return Outcome(data, show, exit_code(bool(records), failures))


def encoder_overrides(encoder_weights: Path | None) -> dict[str, Any]:
    """What a bundle over somebody else's network must be told: the file of that network's weights."""
    return {} if encoder_weights is None else {"encoder_weights": encoder_weights}


def _checked(pipeline: Pipeline, scan: Scan) -> TilingCheck:
    """The comparison with one piece.

    Raises:
        ModelError: there are seams.
    """
    check = pipeline.check_tiling(scan)
    if not check.passed:
        raise ModelError(
            f"tiles leave seams: {check.words()}",
            path=scan.path,
            remedy="report it: the network's halo is wrong",
        )
    return check


def _record_data(record: Record, checks: Mapping[str, TilingCheck]) -> dict[str, Any]:
    check = checks.get(record.scan.key)
    return {
        "scan": record.scan.key,
        "path": str(record.scan.path),
        "notes": [*record.scan.notes, *record.notes],
        "outputs": {result: str(path) for result, path in record.outputs.items()},
        "seconds": round(record.seconds, 3),
        "network_seconds": round(record.network_seconds, 3),
        **({} if check is None else {"tiling": check.data()}),
    }
