"""Scans that wait for their atlas, one after another; the results lie in one folder."""

from __future__ import annotations

import json
import queue
import re
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from medrecon.errors import MedreconError

PAGE, METRICS = "report.html", "metrics.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
_LARGEST = 32 << 20


@dataclass
class Job:
    """One scan on its way.

    Attributes:
        number: counted from 1.
        title: what to call it before it has a label.
        state: "waiting", "running", "stopping", "stopped", "done" or "failed".
        share: of the work, 0 to 1.
        result: name of the folder of its results, once done.
        error: why it failed, and what to do.
    """

    number: int
    title: str
    work: Callable[[Path, Callable[[int, int], None]], Any] = field(repr=False)
    after: Callable[[], None] = field(repr=False, default=lambda: None)
    state: str = "waiting"
    share: float = 0.0
    result: str = ""
    error: str = ""

    def data(self) -> dict[str, Any]:
        """For the page."""
        return {
            "number": self.number,
            "title": self.title,
            "state": self.state,
            "share": self.share,
            "result": self.result,
            "error": self.error,
        }


class _Stopped(Exception):
    """Raised where a job tells its progress, once it is asked to stop."""


class Jobs:
    """Runs jobs in a thread of its own, one at a time.

    Args:
        results: the folder of results; made when missing.
    """

    def __init__(self, results: Path) -> None:
        results.mkdir(parents=True, exist_ok=True)
        self.folder = results.resolve()
        self._all: list[Job] = []
        self._changing = threading.Lock()
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="medrecon open")
        self._thread.start()

    def add(
        self,
        title: str,
        work: Callable[[Path, Callable[[int, int], None]], Any],
        after: Callable[[], None] = lambda: None,
    ) -> Job:
        """Let `work(output, progress)` be done when its turn comes, and `after()` whatever becomes of it."""
        job = Job(len(self._all) + 1, title, work, after)
        self._all.append(job)
        self._waiting.put(job)
        return job

    def stop(self, number: int) -> bool:
        """Let a job not begin, or end where it next tells its progress; False where there is none to stop."""
        with self._changing:
            job = next((job for job in self._all if job.number == number), None)
            after = {"waiting": "stopped", "running": "stopping"}
            if job is None or job.state not in after:
                return False
            job.state = after[job.state]
            return True

    def data(self) -> list[dict[str, Any]]:
        """All jobs, the newest first."""
        return [job.data() for job in reversed(self._all)]

    def results(self) -> list[dict[str, Any]]:
        """Earlier results, the newest first: name of the folder, label of the scan, model, time."""
        found = []
        for page in self.folder.glob(f"*/{PAGE}"):
            metrics = page.with_name(METRICS)
            try:
                if not _NAME.fullmatch(page.parent.name) or metrics.stat().st_size > _LARGEST:
                    continue
                scores = json.loads(metrics.read_text(encoding="utf-8"))
                said = {"label": str(scores["label"]), "model": str(scores["facts"].get("model", ""))}
                time = page.stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            when = datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")
            found.append((time, {"name": page.parent.name, "when": when, **said}))
        return [each for _, each in sorted(found, key=lambda pair: -pair[0])]

    def file(self, name: str, path: str) -> Path | None:
        """A file of a result; None for whatever is none, or lies outside of its folder."""
        if not _NAME.fullmatch(name) or "\0" in path:
            return None
        folder = self.folder / name
        target = (folder / path).resolve()
        inside = target.is_relative_to(folder.resolve()) and folder.resolve().is_relative_to(self.folder)
        return target if inside and target.is_file() else None

    def close(self) -> None:
        """Start no further job; the one that runs is not waited for."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                if self._begins(job):
                    name = self._free(job)
                    job.work(self.folder / name, lambda done, of, job=job: _tick(job, done, of))  # type: ignore[misc]
                    job.result, job.share, job.state = name, 1.0, "done"
            except _Stopped:
                job.state = "stopped"
            except MedreconError as error:
                job.error, job.state = "; ".join(filter(None, (error.message, error.remedy))), "failed"
            except Exception as error:  # the page must learn of it, and the next job must run
                traceback.print_exc()
                job.error, job.state = f"internal error: {type(error).__name__}: {error}", "failed"
            finally:
                job.after()

    def _begins(self, job: Job) -> bool:
        with self._changing:
            begins = job.state == "waiting"
            job.state = "running" if begins else job.state
            return begins

    def _free(self, job: Job) -> str:
        stamp = f"{datetime.now():%Y-%m-%d_%H%M%S}_{job.number}"
        name, more = stamp, 1
        while (self.folder / name).exists():
            more += 1
            name = f"{stamp}_{more}"
        return name


def _tick(job: Job, done: int, of: int) -> None:
    if job.state == "stopping":
        raise _Stopped
    job.share = done / max(1, of)
