"""The verb `reconstruct`: scan after scan; one that fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecon.choices import refuse_mixed, with_hu
from medrecon.commands.faults import PARTIAL, Fault, fault_of, one_line
from medrecon.commands.progress import progress_bar
from medrecon.commands.session import Outcome, Session
from medrecon.commands.tables import table
from medrecon.errors import ModelError
from medrecon.io import find_scans
from medrecon.pipeline import Pipeline, Record
from medrecon.seams import TilingCheck

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
    hu: bool,
    all_series: bool,
    options: Mapping[str, Any],
    check_tiling: bool = False,
) -> Outcome:
    """Find the scans, run the bundle on each, and tell what became of them.

    `options` go to `medrecon.io.find_scans`, the others to `medrecon.pipeline.Pipeline.from_bundle`.

    Raises:
        ScanError: nothing can be read, or the one scan cannot.
        ModelError: the bundle or a layer cannot be used.
        OutputError: nothing can be written.
        UsageError: the options do not make sense.
    """
    found = find_scans(source, **options)
    if not all_series:
        refuse_mixed(found)
    scans = [with_hu(scan) if hu else scan for scan in found.scans]
    pipeline = Pipeline.from_bundle(
        bundle,
        scans=scans,
        output=output,
        layers=layers,
        device=device,
        output_format=output_format,
        overwrite=overwrite,
        overrides=encoder_overrides(encoder_weights),
    )
    for scan in scans:
        for note in scan.notes:
            session.say(f"note: {scan.path}: {note}")
    records: list[Record] = []
    checks: dict[str, TilingCheck] = {}
    failures: list[Fault] = []
    for refusal in found.refused:
        failures.append(fault_of(refusal))
        session.complain(failures[-1], refusal)
    for number, scan in enumerate(scans, start=1):
        try:
            if check_tiling:
                checks[scan.key] = _checked(pipeline, scan)
            records.append(_run(session, pipeline, scan, f"{number}/{len(scans)} {scan.path.name}"))
            for note in records[-1].notes:
                session.say(f"note: {note}")
        except Exception as error:
            if len(scans) == 1 and not failures:
                raise
            failures.append(_about(scan, fault_of(error)))
            session.complain(failures[-1], error)
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
        "left_out": [{"path": str(item.path), "reason": item.reason} for item in found.left_out],
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

    return Outcome(data, show, _code(records, failures))


def encoder_overrides(encoder_weights: Path | None) -> dict[str, Any]:
    """What a bundle over somebody else's network must be told: the file of that network's weights."""
    return {} if encoder_weights is None else {"encoder_weights": encoder_weights}


def _run(session: Session, pipeline: Pipeline, scan: Scan, label: str) -> Record:
    with progress_bar(session, label) as tick:
        return pipeline.run(scan, progress=tick)


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


def _about(scan: Scan, fault: Fault) -> Fault:
    """The same fault, naming the scan if it names no file."""
    if fault.path is not None:
        return fault
    return Fault(str(scan.path), fault.message, fault.remedy, fault.exit_code)


def _code(records: list[Record], failures: list[Fault]) -> int:
    """0 when all went well, 8 when some did, and when none did the code of the first failure."""
    if not failures:
        return 0
    return PARTIAL if records else failures[0].exit_code


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
