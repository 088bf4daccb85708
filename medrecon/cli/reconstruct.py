"""The command `reconstruct`: scan after scan; one that fails does not stop the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import (
    Ended,
    called,
    find_asked,
    label_of,
    names_of,
    say_notes,
    tell_each,
    tell_sources,
)
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.deidentify import Identity
from medrecon.cli.faults import one_line
from medrecon.cli.linear import AnyNetwork
from medrecon.cli.options import DryRun, Format, Input, Layers, ManyScans, OutputFormat, Overwrite
from medrecon.cli.pacs import Pacs
from medrecon.cli.planned import planned_outcome
from medrecon.cli.progress import Tick, phase_bar
from medrecon.cli.remote import Remote
from medrecon.cli.samples import Samples
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import MedreconError, ModelError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.inference.pipeline import Pipeline, Record
    from medrecon.inference.tiling_check import TilingCheck
    from medrecon.io.scan import Found, Scan


@dataclass(frozen=True)
class Beside:
    """What is written or checked beside the results."""

    overwrite: Overwrite = False
    manifest: Annotated[
        bool,
        option("--manifest/--no-manifest", "Write what was read, run and written, without identity."),
    ] = True
    error_map: Annotated[
        bool,
        option(
            "--error-map",
            "Write each result minus its source beside it, in the source's units: a Parametric Map "
            "from DICOM (NAME_error.dcm), else a volume of the same format.",
        ),
    ] = False
    check_tiling: Annotated[
        bool,
        option(
            "--check-tiling",
            "Compare each scan in tiles with the same in one piece first, and say how far they differ.",
        ),
    ] = False


@verb(
    "medrecon reconstruct CT_SERIES/ CT_level3/ --layers level3",
    "medrecon reconstruct t1.nii.gz out/ --layers level1,level2,level3+level4",
    "medrecon reconstruct study/ out/ --layers input --format nifti",
    "medrecon reconstruct CT_SERIES/ out/ --bundle frozen_encoder_inversion \\\n"
    "      --encoder-weights vgg16.safetensors --layers relu1_2,relu4_3",
    "medrecon reconstruct CT_SERIES/ level5/ --layers level5 --samples 8 --seed 1",
    "medrecon reconstruct pacs:research/1.2.840.1 pacs:research --layers level3",
    "medrecon reconstruct CT_SERIES/ out/ --encoder vgg16 \\\n"
    "      --weights vgg16.safetensors --layers relu2_2,relu4_3",
    takes="8 s of a CPU core for a CT of 122x101x112 and one layer, 14 s for 512x512x100.",
)
def reconstruct(
    session: Session,
    source: Input,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="For one scan and one result: the series folder, or a .nii.gz, .nrrd or .mha file. For "
            "several: a folder with one entry each. Or pacs:NAME: sent there.",
        ),
    ],
    *,
    reading: ManyScans,
    pacs: Pacs,
    identity: Identity,
    network: AnyNetwork,
    drawn: Samples,
    layers: Layers = None,
    output_format: Format = OutputFormat.same,
    beside: Beside,
    dry_run: DryRun = False,
) -> Outcome:
    """Write what the chosen layers keep of a scan, as a scan.

    The result has the source's grid and units: a derived DICOM series from DICOM, NIfTI from all else.
    INPUT may lie in a PACS: pacs:NAME/STUDY[/SERIES], by UIDs.

    A bundle's decoder makes it. Of any other network (--encoder) the linear inverse of each layer does: a
    lower bound, fitted in a minute or so and kept for the next time.

    A decoder answers with the mean of all scans that fit the features. --samples draws some of them, into
    NAME_samples beside the result: what differs between them, the layer left open.
    """
    network.check()
    drawn.beside(network.encoder)
    remote = session.until_the_end(Remote(session, source, output, pacs, output_format))
    source, output = identity.without(session, remote.source), remote.output
    found = find_asked(session, source, reading)
    chosen = network.choose(session, found, reading, layers)
    from medrecon.inference.error_map import check_error_maps
    from medrecon.inference.pipeline import Pipeline

    found, seed = chosen.found, drawn.drawn_with
    pipeline = Pipeline.from_bundle(
        chosen.bundle,
        scans=found.scans,
        output=output,
        layers=layers,
        device=network.device,
        output_format=output_format.value,
        overwrite=beside.overwrite,
        overrides=chosen.overrides,
        samples=drawn.samples,
        seed=seed,
    )
    say_notes(session, found)
    if beside.error_map:
        check_error_maps(pipeline.targets.values(), overwrite=beside.overwrite)
    if dry_run:
        return planned_outcome(pipeline, found, beside.error_map, drawn.samples)
    if drawn.samples is not None:
        session.say(f"samples: {drawn.samples} of each result, seed {seed}: generated, not measured")
    run = _Run(session, pipeline, found, beside)
    records, failures = tell_each(session, found, run.outcomes())
    records = remote.deliver(records, whole=not failures)
    manifest = None
    if beside.manifest and not remote.in_pacs:
        manifest = pipeline.write_manifest(output, left_out=found.left_out, refused=found.refused)
    sources = None if remote.in_pacs else tell_sources(found, output)
    return run.told(Ended(found, records, failures, sources, reading.names_from_source), manifest)


@dataclass(frozen=True)
class _Run:
    """One run over the scans that were found."""

    session: Session
    pipeline: Pipeline
    found: Found
    beside: Beside
    checks: dict[str, TilingCheck] = field(default_factory=dict)

    def outcomes(self) -> Iterator[tuple[Scan, Record | Exception]]:
        """Each scan with its record, error maps among its outputs, or with the error that it ended with."""
        labels = {scan.key: label_of(n, self.found) for n, scan in enumerate(self.found.scans, start=1)}
        with phase_bar(self.session, "reading") as begin:

            @contextlib.contextmanager
            def watching(scan: Scan) -> Iterator[Tick | None]:
                if self.beside.check_tiling:
                    begin(f"{labels[scan.key]}: comparing tiles with one piece")
                    self.checks[scan.key] = _checked(self.pipeline, scan)
                yield begin(labels[scan.key])
                begin(f"{labels[scan.key]}: writing")

            for scan, outcome in self.pipeline.run_each(
                self.found.scans, watching, lambda scan, words: begin(f"{labels[scan.key]}: {words}")
            ):
                if not isinstance(outcome, Exception):
                    self.session.note(*outcome.notes)
                    if self.beside.error_map:
                        yield scan, _with_error_maps(self.pipeline, outcome, self.beside.overwrite)
                        continue
                yield scan, outcome

    def told(self, ended: Ended[Record], manifest: Path | None) -> Outcome:
        """What came of it."""
        pipeline, session = self.pipeline, self.session
        data = {
            "manifest": None if manifest is None else str(manifest),
            "bundle": pipeline.bundle.name,
            "version": pipeline.bundle.version,
            "caveats": pipeline.bundle.caveats,
            "device": str(pipeline.device),
            "results": [_record_data(record, self.checks) for record in ended.records],
            **ended.data,
        }

        def show(console: Console) -> None:
            _show(console, ended, self.checks)
            for caveat in pipeline.bundle.caveats:
                console.print(f"note: {caveat}")
            if manifest is not None and not session.quiet:
                console.print(f"manifest: {one_line(str(manifest))}")
            ended.show_sources(console, session)
            if ended.found.left_out and not session.quiet:
                count = len(ended.found.left_out)
                console.print(f"left out: {count} files that are no part of a scan (medrecon scans)")

        return Outcome(data, show, ended.exit_code)


def _show(console: Console, ended: Ended[Record], checks: Mapping[str, TilingCheck]) -> None:
    """What became of each scan."""
    rows = [
        (called(record.scan, console.file), result, path, "" if number else f"{record.seconds:.1f}")
        for record in ended.records
        for number, (result, path) in enumerate(record.outputs.items())
    ]
    if rows:
        print_table(console, ("scan", "result", "written to", "seconds"), rows, right=("seconds",))
    ended.show_failures(console)
    for record in ended.records:
        name = one_line(called(record.scan, console.file))
        if record.feature_distances:
            print_table(
                console,
                (f"features of {name}", "off by"),
                [(result, f"{off:.2%}") for result, off in record.feature_distances.items()],
                right=("off by",),
            )
        if record.scan.key in checks:
            console.print(f"tiling: {name}: {checks[record.scan.key].words()}")


def _with_error_maps(pipeline: Pipeline, record: Record, overwrite: bool) -> Record | Exception:
    """The record with its error maps among the outputs, or the error of writing them."""
    try:
        maps = pipeline.write_error_maps(record, overwrite=overwrite)
    except MedreconError as error:
        return error
    return replace(record, outputs={**record.outputs, **maps})


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
        **names_of(record.scan),
        "notes": [*record.scan.notes, *record.notes],
        "outputs": {result: str(path) for result, path in record.outputs.items()},
        "seconds": round(record.seconds, 3),
        "network_seconds": round(record.network_seconds, 3),
        **({"feature_distances": dict(record.feature_distances)} if record.feature_distances else {}),
        **({} if check is None else {"tiling": check.data()}),
    }
