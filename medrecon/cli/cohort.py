"""The verb `cohort`: many studies at once; shows how far it is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from medrecon.cli.faults import PARTIAL, fault_of
from medrecon.cli.progress import long_work
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import table
from medrecon.cohort.progress import duration
from medrecon.cohort.run import Summary, run_cohort
from medrecon.cohort.settings import Settings
from medrecon.cohort.studies import plan_studies
from medrecon.compute.clusters import LOCAL, Place, check_cluster, count_cores, parse_options
from medrecon.compute.devices import pick_gpus
from medrecon.errors import MedreconError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

_MEMORY_PER_WORKER = 4 << 30
_LINE_EVERY = 30.0
_SHOWN = 50


@dataclass(frozen=True)
class Asked:
    """The options of `cohort` that say where and how, not what: see its help."""

    workers: int | None = None
    cluster: str = LOCAL
    nodes: int = 1
    gpus: int | None = None
    cluster_options: tuple[str, ...] = ()
    retries: int = 2
    overwrite: bool = False


def reconstruct_cohort(
    session: Session, source: Path, output: Path, settings: Settings, asked: Asked
) -> Outcome:
    """Reconstruct all studies, and tell what became of them.

    Raises:
        MedreconError: nothing could be started; each study's own failure is in the outcome instead.
    """
    check_cluster(asked.cluster)
    place, cores = place_of(asked, settings.device)
    plan = plan_studies(source, output)
    for note in plan.notes:
        session.say(f"note: {note}")
    session.say(
        f"{len(plan.studies)} studies, {place.workers * place.nodes} worker(s)"
        + ("" if place.cluster == LOCAL else f" on {place.nodes} node(s) of {place.cluster}")
        + (f", GPU {', '.join(place.accelerators)}" if place.accelerators else "")
    )
    with long_work(session, len(plan.studies), every=_LINE_EVERY, first="starting workers") as show:
        summary = run_cohort(
            plan,
            output,
            settings,
            place,
            fault_of,
            retries=asked.retries,
            overwrite=asked.overwrite,
            watch=lambda tally: show(tally.ended, tally.words),
            cores=cores,
        )
    return _outcome(session, summary)


def place_of(asked: Asked, device: str) -> tuple[Place, int]:
    """Where the workers run and how many of them, and the cores of a machine that cannot see its own.

    Raises:
        UsageError: options that do not make sense together.
    """
    local = asked.cluster == LOCAL
    options = parse_options(asked.cluster_options, asked.cluster, asked.nodes)
    accelerators = pick_gpus(device, asked.gpus, here=local)
    if accelerators:
        most = len(accelerators)
    elif local:
        most = max(1, min(count_cores(), psutil.virtual_memory().available // _MEMORY_PER_WORKER))
    else:
        most = 1
    workers = -(-asked.workers // asked.nodes) if asked.workers else most
    if accelerators and workers > most:
        raise UsageError(
            f"{workers} workers for {most} GPU(s) of a machine", remedy="each worker has a GPU of its own"
        )
    address = str(options.pop("address", ""))
    cores = int(float(options.get("max_cpu", 2))) if asked.cluster == "kubernetes" else 0
    place = Place(asked.cluster, asked.nodes, workers, accelerators[:workers], options, address)
    return place, cores


def _outcome(session: Session, summary: Summary) -> Outcome:
    tally, failures = summary.tally, summary.failures
    data = {
        "studies": tally.total,
        "done": tally.made + tally.kept,
        "made": tally.made,
        "kept": tally.kept,
        "failed": failures,
        "table": str(summary.files[0]),
        "seconds": round(summary.seconds, 3),
        "studies_per_second": tally.rate and round(tally.rate, 4),
    }

    def show(console: Console) -> None:
        if failures:
            rows = [(row["source"], row["status"], row.get("reason")) for row in failures[:_SHOWN]]
            console.print(table(("study", "", "why"), rows))
            if len(failures) > _SHOWN:
                console.print(f"and {len(failures) - _SHOWN} more")
        by_before = f" ({tally.kept} of them by an earlier run)" if tally.kept else ""
        console.print(
            f"{tally.made + tally.kept} of {tally.total} studies done{by_before}, {len(failures)} failed, "
            f"in {duration(summary.seconds)}"
        )
        if not session.quiet:
            console.print(f"table: {summary.files[0]}")

    if not failures:
        return Outcome(data, show)
    some = tally.made + tally.kept or any(row["status"] != "failed" for row in failures)
    return Outcome(data, show, PARTIAL if some else int(failures[0]["exit_code"] or MedreconError.exit_code))
