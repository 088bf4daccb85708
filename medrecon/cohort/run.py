"""A run over many studies, from the plan to the table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecon import __version__
from medrecon.cohort.executor import StudyExecutor, require_parsl
from medrecon.cohort.heartbeat import Lease
from medrecon.cohort.progress import Tally
from medrecon.cohort.records import STATE, Ledger
from medrecon.cohort.settings import Settings, examine, fingerprint
from medrecon.cohort.studies import Plan, Study
from medrecon.cohort.table import SOURCES, write_table
from medrecon.cohort.work import DONE, Explain, Job
from medrecon.compute.clusters import Place, check_cluster
from medrecon.errors import OutputError
from medrecon.io.files.atomic import write_whole
from medrecon.io.files.sources import write_rows

ABOUT = "cohort.json"
"""What the results of an output folder have in common."""

_SAVE = 30.0
Watch = Callable[[Tally], None]


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes:
        rows: of each study, in the order of the plan.
        tally: the counts.
        files: the table.
        seconds: from start to end.
    """

    rows: tuple[dict[str, Any], ...]
    tally: Tally
    files: tuple[Path, ...]
    seconds: float

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The rows of studies that did not go well altogether."""
        return [row for row in self.rows if row["status"] != DONE]


def run_cohort(
    plan: Plan,
    output: str | Path,
    settings: Settings,
    place: Place,
    explain: Explain,
    *,
    retries: int = 2,
    overwrite: bool = False,
    watch: Watch = lambda tally: None,
    cores: int = 0,
) -> Summary:
    """Reconstruct every study of a plan. The same call again does only what is not done.

    Args:
        plan: the studies.
        output: gets a folder for each study, results.csv and cohort.json; beside it `OUTPUT.sources.csv`
            tells which study is which source, for its owner alone.
        settings: as the user gave them.
        place: where the workers run.
        explain: puts an exception into words.
        retries: how often a study is tried again after its worker was lost or ran out of memory.
        overwrite: make again what was made with other settings.
        watch: called about twice a second.
        cores: of each machine, where it cannot see that by itself.

    Raises:
        UsageError: Parsl is missing, or an option makes no sense.
        ModelError: the model cannot be used.
        OutputError: the output cannot be written, another run is at work in it, or it is of other settings.
        ExecutorError: the workers cannot be kept running.
    """
    start = time.perf_counter()
    settings, ledger = check_cohort(output, settings, place, overwrite=overwrite)
    lock = ledger.hold()
    try:
        lease = Lease.of_this_process(ledger.state)
        job = Job(settings, ledger.output, ledger.settings, lease, cores)
        engine = StudyExecutor(place, job, explain, retries=retries, folder=ledger.state / "engine")
        _write_about(ledger, settings)
        write_rows(ledger.output, [vars(study) | {"study": study.id} for study in plan.studies], SOURCES)
        order = {study.id: number for number, study in enumerate(plan.studies)}
        tally, rows = Tally(len(plan.studies)), {}
        saved = time.monotonic()

        def ended(study: Study, row: dict[str, Any]) -> None:
            nonlocal saved
            rows[study.id] = {**row, "kept": bool(row.get("kept"))}
            tally.add(row)
            if time.monotonic() - saved > _SAVE:
                write_table(ledger.output, rows.values())
                saved = time.monotonic()

        with lease.kept():
            engine.run(plan.studies, ended, lambda: watch(tally))
        done = tuple(rows[name] for name in sorted(rows, key=order.__getitem__))
        files = write_table(ledger.output, done)
    finally:
        lock.release()
    return Summary(done, tally, tuple(files), time.perf_counter() - start)


def check_cohort(
    output: str | Path, settings: Settings, place: Place, *, overwrite: bool = False
) -> tuple[Settings, Ledger]:
    """All that can be refused before a worker starts; nothing is written. Arguments as `run_cohort`.

    Returns:
        The settings with the results spelled out, and where the run keeps its records.

    Raises:
        UsageError, ModelError, OutputError: as `run_cohort`.
    """
    require_parsl()
    check_cluster(place.cluster)
    settings = examine(settings)
    ledger = Ledger(Path(output).absolute(), fingerprint(settings))
    _refuse_others(ledger, overwrite)
    return settings, ledger


def _refuse_others(ledger: Ledger, overwrite: bool) -> None:
    """Refuse a folder that holds something else than the results of these settings."""
    output = ledger.output
    if output.exists() and not output.is_dir():
        raise OutputError("is a file, but a folder is needed", path=output, remedy="choose another output")
    about = output / ABOUT
    if not about.is_file():
        if output.is_dir() and any(entry.name != STATE for entry in output.iterdir()):
            raise OutputError(
                "is a folder that holds something else", path=output, remedy="choose a new or empty folder"
            )
        return
    try:
        same = json.loads(about.read_text(encoding="utf-8"))["fingerprint"] == ledger.settings
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same and not overwrite:
        raise OutputError(
            "holds results of other settings or another model",
            path=output,
            remedy="choose another output, or pass --overwrite to make them again",
        )


def _write_about(ledger: Ledger, settings: Settings) -> None:
    content = {
        "schema": "medrecon.cohort/1",
        "version": __version__,
        "fingerprint": ledger.settings,
        "bundle": Path(settings.bundle).name,
        "layers": list(settings.layers or ()),
        "format": settings.output_format,
    }
    write_whole(ledger.output / ABOUT, json.dumps(content, indent=1) + "\n")
