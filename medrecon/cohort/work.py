"""What a worker does with a study. The worker lives long: it loads the model once, for its first study."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from medrecon.cohort.heartbeat import Lease, Pulse, host_code
from medrecon.cohort.records import Ledger, source_stamp
from medrecon.cohort.settings import Settings
from medrecon.cohort.studies import Study
from medrecon.compute.clusters import count_cores
from medrecon.errors import MedreconError, OutOfMemoryError
from medrecon.io.files.archive import is_zip, unpacked
from medrecon.io.files.names import hiding
from medrecon.io.files.walk import walk

DONE, PARTIAL, FAILED = "done", "partial", "failed"
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_M_ARENA_MAX = -8  # malloc.h
_kept: dict[str, Any] = {}
"""What this process keeps from study to study: the network of its settings, its pulse."""


class Explanation(Protocol):
    """An error as the user gets it: `medrecon.cli.faults.Fault`."""

    @property
    def message(self) -> str: ...  # noqa: D102
    @property
    def remedy(self) -> str: ...  # noqa: D102
    @property
    def exit_code(self) -> int: ...  # noqa: D102


Explain = Callable[[BaseException], Explanation]


class StudyOutOfMemory(MedreconError):
    """A study did not fit the memory that was left: tried again, unlike all else that a worker meets."""

    exit_code = OutOfMemoryError.exit_code


@dataclass(frozen=True)
class Job:
    """What every study of a run has in common.

    Attributes:
        settings: examined ones.
        output: the folder that gets a folder for each study.
        fingerprint: of the settings.
        lease: of the run.
        cores: of a machine, where it cannot see by itself how many it may use; else 0.
    """

    settings: Settings
    output: Path
    fingerprint: str
    lease: Lease
    cores: int = 0


def run_study(study: Study, job: Job, explain: Explain) -> dict[str, Any]:
    """Reconstruct a study, or see that it is done already.

    Args:
        study: which.
        job: how, and to where.
        explain: puts any exception into words.

    Returns:
        Its row of the table. "status" is "done"; "partial" when some of its scans were refused or failed;
        "failed" when all were: that says nothing of the machine and would happen again. "kept" tells whether
        an earlier run's results were found whole.

    Raises:
        StudyOutOfMemory: may go well in another try.
    """
    if "pulse" not in _kept or _kept["pulse"].lease != job.lease:
        _kept["pulse"] = Pulse(job.lease).start()
    with _kept["pulse"].at_work(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = (time.perf_counter(), time.process_time())
        try:
            row = _find_or_make(study, job, explain, start)
        except Exception as error:
            told = explain(error)
            if told.exit_code == OutOfMemoryError.exit_code:
                _kept.pop("network", None)
                raise StudyOutOfMemory(told.message, path=study.path, remedy=told.remedy) from None
            row = {"status": FAILED, **failure(told, _names(study.path)), **_costs(start)}
    return {"study": study.id, **row}


def failure(told: Explanation, sources: Iterable[Path] = ()) -> dict[str, Any]:
    """The columns of the table that tell why a study failed, without the names of its files."""
    hide = hiding(sources)
    return {"exit_code": told.exit_code, "reason": hide(told.message), "remedy": hide(told.remedy)}


def _names(path: Path) -> list[Path]:
    """A study's files, as far as they can be listed."""
    try:
        return [path, *(item for item in walk(path) if isinstance(item, Path))]
    except (OSError, MedreconError):
        return [path]


def share_cores(cores: int = 0) -> int:
    """Give this worker its share of the machine's cores, so that all together do not ask for more of them.

    Returns:
        The number of threads.
    """
    threads = max(1, (cores or count_cores()) // max(1, int(os.environ.get("PARSL_WORKER_COUNT", "1"))))
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        threads = min(threads, int(given))
    for name in _THREADS:
        os.environ[name] = str(threads)
    if "threads" not in _kept:
        import torch

        torch.set_num_threads(threads)
        _kept["threads"] = threads
        _share_heap()
    return threads


def _find_or_make(study: Study, job: Job, explain: Explain, start: tuple[float, float]) -> dict[str, Any]:
    ledger = Ledger(job.output, job.fingerprint)
    source = source_stamp(study.path)
    row = ledger.finished(study.id, source)
    if row is not None:
        return {**row, "kept": True}
    share_cores(job.cores)
    made = ledger.making(study.id)
    try:
        with unpacked(study.path) if is_zip(study.path) else contextlib.nullcontext(study.path) as place:
            row = {**_make(place, job, made, explain), **_costs(start)}
        return ledger.commit(study.id, made, source, row) if row["status"] != FAILED else row
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _costs(start: tuple[float, float]) -> dict[str, Any]:
    """Time since the start by the clock and of the processor, which process took it, and its memory."""
    _give_back()
    return {
        "seconds": round(time.perf_counter() - start[0], 3),
        "cpu_seconds": round(time.process_time() - start[1], 3),
        "worker": f"{host_code()}:{os.getpid()}",
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "") if _is_pinned() else "",
        "memory_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
    }


def _share_heap() -> None:
    """Have all threads of this process use one heap, where the C library can.

    With a heap each, as glibc has it, what the threads of each study leave behind adds up: in a run of 520
    studies a worker held 45 MiB more in its second half than in its first, and with one heap none.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _give_back() -> None:
    """Hand freed memory back to the system, where the C library can: what stays is then what is in use."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _make(source: Path, job: Job, made: Path, explain: Explain) -> dict[str, Any]:
    """All scans of a study into a folder; those that fail do not stop the others."""
    settings = job.settings
    from medrecon.inference.pipeline import Pipeline
    from medrecon.io import find_scans
    from medrecon.io.choices import named_from_source, refuse_mixed, with_hu
    from medrecon.io.files.names import result_names

    found = find_scans(source, **settings.options)
    if not settings.all_series:
        refuse_mixed(found)
    found = named_from_source(found) if settings.names_from_source else found
    scans = [with_hu(scan) if settings.hu else scan for scan in found.scans]
    results = list(settings.layers or ())
    alone = len(scans) == 1 and len(results) == 1
    series = alone and scans[0].format == "dicom" and settings.output_format in ("same", "dicom")
    device = "cuda" if settings.device.startswith("cuda") and _is_pinned() else settings.device
    overrides = dict(settings.overrides)
    known, network = _kept.get("network", (None, None))
    if known == (job.fingerprint, device):
        overrides["network"] = network
    place = made / result_names(results)[results[0]] if series else made
    pipeline = Pipeline.from_bundle(
        settings.bundle,
        scans=scans,
        output=place,
        layers=results,
        device=device,
        output_format=settings.output_format,
        overrides=overrides,
    )
    _kept["network"] = (job.fingerprint, device), pipeline.network
    records, told = [], [explain(error) for error in found.refused]
    for _, outcome in pipeline.run_each(scans, lambda _: contextlib.nullcontext()):
        if not isinstance(outcome, Exception):
            records.append(outcome)
            continue
        fault = explain(outcome)
        if fault.exit_code == OutOfMemoryError.exit_code:
            raise outcome
        told.append(fault)
    notes = [note for scan in scans for note in scan.notes]
    notes += [note for record in records for note in record.notes]
    hide = hiding(path for scan in scans for path in scan.files)
    row: dict[str, Any] = {
        "status": (PARTIAL if told else DONE) if records else FAILED,
        "scans": len(records),
        "failed_scans": len(told),
        "results": sum(len(record.outputs) for record in records),
        "voxels": sum(_volume(record.scan.shape) for record in records),
        "network_seconds": round(sum(record.network_seconds for record in records), 3),
        "notes": " | ".join(dict.fromkeys(map(hide, notes))),
    }
    if told:
        row |= failure(told[0], _names(source))
    if records:
        pipeline.write_manifest(place, left_out=found.left_out, refused=found.refused)
    return row


def _volume(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _is_pinned() -> bool:
    """Whether this worker sees one GPU alone, which is then its first whatever its number was outside."""
    with contextlib.suppress(KeyError):
        return "," not in os.environ["CUDA_VISIBLE_DEVICES"]
    return False
