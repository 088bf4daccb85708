"""A node at work: what has arrived, when it is whole, and what is done with it, until it stops."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom import dcmread

from medrecon.errors import ModelError, OutputError, UsageError, told_as
from medrecon.io.files.lock import FolderLock
from medrecon.io.files.names import hiding
from medrecon.io.scan import ScanError
from medrecon.pacs.archive import Archive, ArchiveError
from medrecon.pacs.derived import is_ours
from medrecon.pacs.node.http import start_http
from medrecon.pacs.node.intake import Intake
from medrecon.pacs.node.queue import Job, Queue
from medrecon.pacs.node.scp import start_scp
from medrecon.pacs.node.settings import Settings
from medrecon.pacs.node.views import Watch, called
from medrecon.pacs.node.work import Stopped, Worker

LOG = logging.getLogger("medrecon")
_HOUR = 3600.0
_LONGEST_PAUSE = _HOUR
_ROUND = 0.2
FOR_GOOD = (ScanError, ModelError, UsageError)
"""Errors that another try would meet again."""


class Service:
    """A node on a spool folder of its own.

    Args:
        settings: what it does.
        spool: its folder; made for the user alone.
        connect: name of a destination -> a connection.
        device: where networks run.
        explain: puts any exception into one line without names.

    Raises:
        OutputError: the folder cannot be used, or another node runs on it.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Path,
        connect: Callable[[str], Archive],
        *,
        device: str = "auto",
        explain: Callable[[BaseException], str] = str,
    ) -> None:
        self.settings, self._spool, self._explain = settings, spool, explain
        self._since = time.time()
        self._rules = {rule.name: rule for rule in settings.rules}
        with told_as(OutputError, "cannot be used", path=spool, remedy="choose another --spool"):
            spool.mkdir(parents=True, exist_ok=True)
            spool.chmod(0o700)
        self._lock = FolderLock(spool / "lock", spool)
        self._lock.acquire()
        self.queue = Queue(spool / "queue.sqlite")
        self.intake = Intake(settings, spool, self.queue)
        self.watch = Watch(self.queue, self.intake, spool)
        self._stop = threading.Event()
        self._worker = Worker(self._rules, spool, device, connect, self._stop.is_set)

    def stop(self) -> None:
        """Have `run` return after the tile that is under way."""
        self._stop.set()

    @contextlib.contextmanager
    def listening(self, token: str = "") -> Iterator[None]:
        """Take instances in by C-STORE and STOW-RS.

        Raises:
            UsageError: a port is taken.
        """
        with contextlib.ExitStack() as stack:
            if self.settings.dicom_port:
                stack.callback(start_scp(self.settings, self.intake).shutdown)
            if self.settings.http_port:
                server = start_http(self.settings, self.intake, self.watch.views, token)
                stack.callback(server.server_close)
                stack.callback(server.shutdown)
            yield

    def run(self, *, until_idle: bool = False) -> None:
        """Work until `stop` is called.

        Args:
            until_idle: return when nothing gathers and nothing waits.
        """
        self._since = time.time()
        retried = self.queue.retry_failed(self._since)
        if retried:
            LOG.info("%d jobs that had failed are tried again", retried)
        self.intake.sweep()
        self._worker.sweep(self.queue.jobs_left())
        self._work(until_idle)
        self._tidy()

    def _work(self, until_idle: bool) -> None:
        while not self._stop.is_set():
            self.watch.beat = time.time()
            self._look_for_whole_series()
            self._tidy()
            job = self.queue.next_job(time.time())
            if job is not None:
                self._do(job)
                continue
            counts = self.queue.counts()
            if until_idle and not counts["gathering"] and not counts["waiting"]:
                return
            self._stop.wait(_ROUND)

    def close(self) -> None:
        """Let go of the queue and the folder."""
        self.queue.close()
        self._lock.release()

    def _look_for_whole_series(self) -> None:
        now = time.time()
        for series, calling, changed, count in self.queue.gathering():
            quiet = now - max(changed, self._since) >= self.settings.stable_seconds  # down is not quiet
            enough = [rule.instances for rule in self.settings.rules if rule.instances]
            if not quiet and count not in enough:
                continue
            wanting = self._rules_for(series, calling, None if quiet else count)
            if wanting is None:
                continue
            if self.queue.whole(series, wanting, seen=changed, now=now):
                LOG.info(
                    "%s: %d instances, %s", called(series), count, ", ".join(wanting) or "no rule wants it"
                )

    def _rules_for(self, series: str, calling: str, count: int | None) -> list[str] | None:
        """The rules that want a series, those with that number of instances if it is given.

        None where none of them waits for that number: the series is not whole yet.
        """
        first = next(iter(self.intake.files(series)), None)
        if first is None:
            return []
        header = dcmread(first, stop_before_pixels=True)
        if is_ours(header):
            return []
        wanting = [rule for rule in self.settings.rules if rule.wants(header, calling)]
        if count is not None and not (wanting and all(rule.instances == count for rule in wanting)):
            return None
        return [rule.name for rule in wanting]

    def _do(self, job: Job) -> None:
        name = called(job.series)
        if job.rule not in self._rules:
            self.queue.give_up(job, "its rule is no longer there", time.time())
            return
        gone = len(self.queue.instances(job.series, here=False))
        if gone:
            reason = f"more has come, but {gone} of its instances are no longer here: send the whole series"
            self.queue.give_up(job, reason, time.time())
            return
        self.watch.at_work = f"{name}: {job.rule}"
        start = time.monotonic()
        files = self.intake.files(job.series)
        try:
            notes = self._worker.do(job, files, sending=lambda: self.queue.sending(job))
        except Stopped:
            return
        except Exception as error:
            self._failed(job, error, hiding(files)(self._explain(error)))
        else:
            for note in notes:
                LOG.info("%s: note: %s", name, hiding(files)(note))
            self.queue.finish(job, time.time())
            self._worker.discard(job)
            self.watch.done += 1
            LOG.info("%s: %s done, %.1f s", name, job.rule, time.monotonic() - start)
        finally:
            self.watch.seconds += time.monotonic() - start
            self.watch.network_seconds = self._worker.network_seconds
            self.watch.at_work = ""

    def _failed(self, job: Job, error: Exception, reason: str) -> None:
        name = called(job.series)
        refused = isinstance(error, FOR_GOOD) and not isinstance(error, ArchiveError)
        if refused or job.tries + 1 >= self.settings.retries:
            self.queue.give_up(job, reason, time.time())
            self._worker.discard(job)
            self.watch.failed += 1
            LOG.warning("%s: %s failed: %s", name, job.rule, reason)
            return
        pause = min(self.settings.retry_seconds * 2**job.tries, _LONGEST_PAUSE)
        self.queue.again(job, reason, time.time() + pause)
        self.watch.retried += 1
        LOG.warning("%s: %s is tried again in %.0f s: %s", name, job.rule, pause, reason)

    def _tidy(self) -> None:
        for series in self.queue.ended(time.time() - self.settings.keep_hours * _HOUR):
            self.intake.discard(series)
