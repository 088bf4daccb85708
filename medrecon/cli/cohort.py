"""The command `cohort`: many studies at once; shows how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.faults import PARTIAL, fault_of
from medrecon.cli.machines import Machines, machine_option
from medrecon.cli.options import (
    Bundle,
    Device,
    DryRun,
    EncoderWeights,
    Format,
    Layers,
    ManyScans,
    OutputFormat,
)
from medrecon.cli.progress import long_work
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import MedreconError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.cohort.records import Ledger
    from medrecon.cohort.run import Summary
    from medrecon.cohort.settings import Settings
    from medrecon.cohort.studies import Plan

_LINE_EVERY = 30.0
_SHOWN = 50


@dataclass(frozen=True)
class Wanted:
    """What is made of every study."""

    layers: Layers = None
    output_format: Format = OutputFormat.same
    bundle: Bundle = "volume_autoencoder"
    encoder_weights: EncoderWeights = None
    device: Device = "auto"

    def settings(self, reading: ManyScans) -> Settings:
        """The same, and how scans are read, as it goes to every worker."""
        from medrecon.cohort.settings import Settings

        return Settings(
            bundle=self.bundle,
            layers=self.layers,
            encoder_weights=self.encoder_weights,
            device=self.device,
            output_format=self.output_format.value,
            hu=reading.hu,
            all_series=reading.all_series,
            names_from_source=reading.names_from_source,
            options=reading.options,
        )


@verb(
    "medrecon cohort STUDIES/ OUT/ --layers level3",
    "medrecon cohort list.csv OUT/ --workers 4",
    "medrecon cohort STUDIES/ OUT/ --cluster slurm --nodes 4 --workers 16 \\\n"
    "      --cluster-option partition=cpu --cluster-option walltime=08:00:00",
    takes="what reconstruct takes for each study, shared among the workers; each starts for about 10 s.",
)
def cohort(
    session: Session,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT_DIR|LIST",
            help="A folder whose entries are a study each (a folder, or a scan file); or a text file with "
            "one path a line; or a .csv or .tsv file with a column 'path'.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT_DIR",
            help="Gets a folder for each study, results.csv and cohort.json. The same command again does "
            "only what is not done.",
        ),
    ],
    *,
    reading: ManyScans,
    machines: Machines,
    workers: Annotated[
        int | None,
        machine_option(
            "--workers -n N",
            "Processes that keep the model loaded, of all machines together. Default: one for each GPU, "
            "else as many as cores and memory allow (on a cluster one for each node).",
            min=1,
        ),
    ] = None,
    retries: Annotated[
        int,
        option(
            "--retries N",
            "How often a study is tried again after its worker was lost or ran out of memory.",
            min=0,
        ),
    ] = 2,
    wanted: Wanted,
    overwrite: Annotated[
        bool, option("--overwrite", "Make again what was made with other settings.")
    ] = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Reconstruct thousands of studies, here or on a cluster.

    The same command again does only what is not done; what is done is verified and kept. A study that fails
    does not stop the others: the exit code is 8, and results.csv and a table say why.
    """
    from medrecon.cohort.places import plan_workers
    from medrecon.cohort.run import check_cohort, run_cohort
    from medrecon.cohort.studies import plan_studies
    from medrecon.compute.clusters import LOCAL

    place, cores = plan_workers(wanted.device, workers=workers, **machines.given)
    settings = wanted.settings(reading)
    plan = plan_studies(source, output)
    session.note(*plan.notes)
    session.say(
        f"{len(plan.studies)} studies, {place.workers * place.nodes} worker(s)"
        + ("" if place.cluster == LOCAL else f" on {place.nodes} node(s) of {place.cluster}")
        + (f", GPU {', '.join(place.accelerators)}" if place.accelerators else "")
    )
    if dry_run:
        settings, ledger = check_cohort(output, settings, place, overwrite=overwrite)
        return _planned(plan, settings, ledger)
    with long_work(session, len(plan.studies), every=_LINE_EVERY, first="starting workers") as show:
        summary = run_cohort(
            plan,
            output,
            settings,
            place,
            fault_of,
            retries=retries,
            overwrite=overwrite,
            watch=lambda tally: show(tally.ended, tally.words),
            cores=cores,
        )
    named = {study.id: study.source for study in plan.studies}
    return _outcome(session, summary, named, reading.names_from_source)


def _planned(plan: Plan, settings: Settings, ledger: Ledger) -> Outcome:
    """What would be done."""
    begun = [study for study in plan.studies if ledger.begun(study.id)]
    data = {
        "studies": [
            {"study": study.id, **({"path": str(study.path)} if settings.names_from_source else {})}
            for study in plan.studies
        ],
        "have_results": [study.id for study in begun],
        "bundle": settings.bundle,
        "layers": list(settings.layers or ()),
        "output": str(ledger.output),
    }

    def show(console: Console) -> None:
        named = settings.names_from_source or console.file.isatty()
        rows = [
            (study.path if named else study.id, ledger.output / study.id) for study in plan.studies[:_SHOWN]
        ]
        print_table(console, ("study", "would be written to"), rows)
        if len(plan.studies) > _SHOWN:
            console.print(f"and {len(plan.studies) - _SHOWN} more")
        if begun:
            console.print(f"{len(begun)} of them have results already, which would be verified")
        console.print(f"{', '.join(settings.layers or ())} of {settings.bundle}; nothing was written")

    return Outcome(data, show)


def _outcome(session: Session, summary: Summary, named: Mapping[str, str], asked: bool) -> Outcome:
    from medrecon.cohort.progress import duration
    from medrecon.io.files.sources import sources_path

    tally, failures = summary.tally, summary.failures
    data = {
        "studies": tally.total,
        "done": tally.made + tally.kept,
        "made": tally.made,
        "kept": tally.kept,
        "failed": [{**row, "source": named.get(row["study"])} for row in failures] if asked else failures,
        "table": str(summary.files[0]),
        "sources": str(sources_path(summary.files[0].parent)),
        "seconds": round(summary.seconds, 3),
        "studies_per_second": tally.rate and round(tally.rate, 4),
    }

    def show(console: Console) -> None:
        if failures:
            names = named if asked or console.file.isatty() else {}
            rows = [
                (names.get(row["study"], row["study"]), row["status"], row.get("reason"))
                for row in failures[:_SHOWN]
            ]
            print_table(console, ("study", "", "why"), rows)
            if len(failures) > _SHOWN:
                console.print(f"and {len(failures) - _SHOWN} more")
        by_before = f" ({tally.kept} of them by an earlier run)" if tally.kept else ""
        console.print(
            f"{tally.made + tally.kept} of {tally.total} studies done{by_before}, {len(failures)} failed, "
            f"in {duration(summary.seconds)}"
        )
        if not session.quiet:
            console.print(
                f"table: {summary.files[0]}; which study is which, for you alone: {data['sources']}"
            )

    if not failures:
        return Outcome(data, show)
    some = tally.made + tally.kept or any(row["status"] != "failed" for row in failures)
    return Outcome(data, show, PARTIAL if some else int(failures[0]["exit_code"] or MedreconError.exit_code))
