"""Parsl gives the studies to its workers and tries again what was lost; when stuck it is started anew."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medrecon.cohort.interchange import __file__ as INTERCHANGE
from medrecon.cohort.studies import Study
from medrecon.cohort.work import FAILED, Explain, Job, StudyOutOfMemory, failure, run_study
from medrecon.cohort.worker_pool import __file__ as WORKER_POOL
from medrecon.compute.clusters import LOCAL, Place, pool_command, provider_of
from medrecon.errors import MedreconError, OutOfMemoryError, UsageError

LIVES = 3
"""How often in a row the engine may end without a single study done before it is given up."""

STUCK = {True: 30.0, False: 300.0}
"""Seconds without a sign of life of any worker, while some are connected, until the engine is started anew;
on this machine, and on others. The first sign may take `START`: libraries come from cold or distant disks."""

START = {True: 180.0, False: 1800.0}

_NOT_IN_SHELL = re.compile(r"[^\w./+=@:,-]")
_TICK = 0.5
_LOOK = 5.0
_LABEL = "medrecon"


class ExecutorError(MedreconError):
    """The engine itself fails, again and again."""

    exit_code = 7


class _Broken(Exception):
    """This life of the engine is over; the studies that are left go to the next."""


class StudyExecutor:
    """Runs `run_study` on many studies at once.

    Args:
        place: where the workers are.
        job: what the studies have in common.
        explain: puts an exception into words; called in the workers.
        retries: how often a study is tried again after its worker was lost or ran out of memory.
        folder: where the engine keeps its logs; seen by all machines.

    Raises:
        UsageError: Parsl is missing, or the place cannot be used.
    """

    def __init__(self, place: Place, job: Job, explain: Explain, *, retries: int, folder: Path) -> None:
        require_parsl()
        self.place, self.job, self.explain = place, job, explain
        self.retries, self.folder = retries, _without_spaces(folder, place)
        self.tries: Counter[str] = Counter()
        provider_of(place)

    def run(
        self,
        studies: Sequence[Study],
        ended: Callable[[Study, dict[str, Any]], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Run all studies; returns when each has ended.

        Args:
            studies: what is to be done.
            ended: called once for each study with its row, in this thread.
            tick: called about twice a second.

        Raises:
            ExecutorError: the engine fails again and again.
        """
        left = {study.id: study for study in studies}
        try:
            self._run(left, ended, tick)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(
        self,
        left: dict[str, Study],
        ended: Callable[[Study, dict[str, Any]], None],
        tick: Callable[[], None],
    ) -> None:
        reason, fruitless = "", 0
        while fruitless < LIVES:
            before = len(left)
            try:
                with self._alive() as kernel:
                    self._live(kernel, left, ended, tick)
            except _Broken as broken:
                reason = str(broken)
                logging.getLogger("medrecon").warning("the engine is started again: %s", reason)
            if not left:
                return
            fruitless = fruitless + 1 if len(left) == before else 0
        raise ExecutorError(
            f"the workers cannot be kept running: {reason}",
            path=self.job.output,
            remedy="start the same command again: what is done is kept",
        )

    @contextlib.contextmanager
    def _alive(self) -> Iterator[Any]:
        from parsl.dataflow.dflow import DataFlowKernel

        kernel = DataFlowKernel(self._config())
        try:
            yield kernel
        finally:
            kernel.cleanup()

    def _config(self) -> Any:
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

        local = self.place.cluster == LOCAL
        executor = HighThroughputExecutor(
            label=_LABEL,
            provider=provider_of(self.place),
            address="127.0.0.1" if local else self.place.address or own_address(),
            max_workers_per_node=self.place.workers,
            cores_per_worker=1e-3,  # the workers share the cores among themselves: `share_cores`
            available_accelerators=list(self.place.accelerators),
            heartbeat_period=2 if local else 10,
            heartbeat_threshold=20 if local else 120,
            launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", self._pool()),
            interchange_launch_cmd=[sys.executable, INTERCHANGE],
        )
        return Config(
            executors=[executor],
            retries=self.retries,
            retry_handler=self._cost,
            strategy="simple",
            run_dir=str(self.folder),
            initialize_logging=False,
        )

    def _pool(self) -> str:
        """What starts the workers of a machine; on this one they end with the run."""
        if self.place.cluster != LOCAL:
            return pool_command(self.place)
        lease = self.job.lease
        return shlex.join([sys.executable, WORKER_POOL, str(lease.process), repr(lease.born)])

    def _cost(self, error: Exception, record: Mapping[str, Any]) -> float:
        """One try for what another try may mend; all of them for what it will not."""
        return 1 if _is_lost(error) or isinstance(error, StudyOutOfMemory) else self.retries + 1

    def _live(
        self,
        kernel: Any,
        left: dict[str, Study],
        ended: Callable[[Study, dict[str, Any]], None],
        tick: Callable[[], None],
    ) -> None:
        from parsl import python_app

        app = python_app(run_study, data_flow_kernel=kernel, cache=False)
        done: queue.SimpleQueue[tuple[Study, Any]] = queue.SimpleQueue()
        for study in left.values():
            future = app(study, self.job, self.explain)
            future.add_done_callback(partial(_put, done, study))
        watch = _Watch(self.job, kernel.executors[_LABEL], self.place.cluster == LOCAL)
        while left:
            with contextlib.suppress(queue.Empty):
                study, future = done.get(timeout=_TICK)
                watch.saw()
                row = self._row(study, future)
                del left[study.id]
                ended(study, row)
            tick()
            watch.look()

    def _row(self, study: Study, future: Any) -> dict[str, Any]:
        """What became of a study.

        Raises:
            _Broken: nothing that is the study's fault.
        """
        tries = future.task_record.get("try_id", 0) + 1 if hasattr(future, "task_record") else 1
        self.tries[study.id] += tries
        counted = {"study": study.id, "tries": self.tries[study.id]}
        error = future.exception()
        if error is None:
            return {**future.result(), **counted}
        if _is_lost(error):
            return {
                **counted,
                "status": FAILED,
                "exit_code": OutOfMemoryError.exit_code,
                "reason": f"its worker was lost {tries} times: {error}",
                "remedy": "it may need more memory than there is: use fewer --workers",
            }
        if type(error).__module__.startswith("parsl."):
            raise _Broken(" ".join(str(error).split())[:500] or type(error).__name__)
        return {**counted, "status": FAILED, **failure(self.explain(error), [study.path])}


class _Watch:
    """Tells when workers that are connected give no sign of life: a lock can die with a killed worker."""

    def __init__(self, job: Job, executor: Any, local: bool) -> None:
        self.lease, self.executor, self.local = job.lease, executor, local
        self.beats = self.before = job.lease.beats()
        self.alive = self.looked = time.monotonic()

    def saw(self) -> None:
        self.alive = time.monotonic()

    def look(self) -> None:
        """Look from time to time.

        Raises:
            _Broken: no sign of life.
        """
        now = time.monotonic()
        if now - self.looked < _LOOK:
            return
        self.looked = now
        beats = self.lease.beats()
        if beats != self.beats:
            self.beats, self.alive = beats, now
        elif now - self.alive > (START if self.beats == self.before else STUCK)[self.local]:
            try:
                workers = sum(m["worker_count"] for m in self.executor.connected_managers() if m["active"])
            except Exception as error:
                raise _Broken(f"its go-between does not answer ({type(error).__name__})") from error
            if workers:
                raise _Broken(f"no sign of life of {workers} worker(s)")


def _without_spaces(folder: Path, place: Place) -> Path:
    """The same folder, or one of this machine's temporary ones: Parsl's scripts quote no path."""
    if not _NOT_IN_SHELL.search(str(folder)):
        return folder
    if place.cluster == LOCAL:
        return Path(tempfile.mkdtemp(prefix="medrecon-"))
    raise UsageError(
        "has a space or a special character in its path, which the batch system's scripts cannot take",
        path=folder.parent.parent,
        remedy="choose another output",
    )


def _put(done: queue.SimpleQueue[tuple[Study, Any]], study: Study, future: Any) -> None:
    done.put((study, future))


def _is_lost(error: BaseException) -> bool:
    return type(error).__name__ in ("WorkerLost", "ManagerLost")


def own_address() -> str:
    """This machine's address as others see it: of its name, else of its first interface; asks nobody."""
    import socket

    import psutil

    with contextlib.suppress(OSError):
        found = socket.gethostbyname(socket.gethostname())
        if not found.startswith("127."):
            return found
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not each.address.startswith("127."):
                return each.address
    return "127.0.0.1"


def require_parsl() -> None:
    """Refuse to start without the engine.

    Raises:
        UsageError: how to install it.
    """
    try:
        import parsl  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "medrecon cohort needs Parsl, which is not installed", remedy="pip install 'medrecon[cohort]'"
        ) from error
