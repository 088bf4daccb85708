"""What can be seen of a node: its health, its numbers for Prometheus, and a page; no name, no UID."""

from __future__ import annotations

import html
import shutil
import time
from pathlib import Path

from medrecon import __version__
from medrecon.pacs.node.http import Views
from medrecon.pacs.node.intake import Intake
from medrecon.pacs.node.queue import Queue
from medrecon.pacs.series import code

_STYLE = (
    "body{font:16px system-ui;margin:2em}td,th{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}"
)


class Watch:
    """What the service counts, and what others may see of it.

    Attributes:
        done, failed, retried: jobs, since the start.
        seconds, network_seconds: of work, and of the networks alone, since the start.
        beat: when the loop last went round.
        at_work: what it is at, "" for nothing.
    """

    def __init__(self, queue: Queue, intake: Intake, spool: Path) -> None:
        self._queue, self._intake, self._spool = queue, intake, spool
        self.done = self.failed = self.retried = 0
        self.seconds = self.network_seconds = 0.0
        self.beat, self.at_work = time.time(), ""

    @property
    def views(self) -> Views:
        """What is shown where."""
        return {"/health": self._health, "/metrics": self._metrics, "/": self._page}

    def _health(self) -> tuple[int, str, str]:
        """Well while the loop goes round or works, and there is room."""
        if not self._intake.has_room:
            return 503, "text/plain", "the disk is full\n"
        return 200, "text/plain", "ok\n"

    def _metrics(self) -> tuple[int, str, str]:
        """Prometheus' text format 0.0.4."""
        counts = self._queue.counts()
        oldest = self._queue.gathering()
        lines = [
            "# TYPE medrecon_series gauge",
            *(f'medrecon_series{{state="{state}"}} {count}' for state, count in counts.items()),
            "# TYPE medrecon_instances_received_total counter",
            f"medrecon_instances_received_total {self._intake.received}",
            "# TYPE medrecon_received_bytes_total counter",
            f"medrecon_received_bytes_total {self._intake.received_bytes}",
            "# TYPE medrecon_instances_refused_total counter",
            f"medrecon_instances_refused_total {self._intake.refused}",
            "# TYPE medrecon_jobs_total counter",
            f'medrecon_jobs_total{{outcome="done"}} {self.done}',
            f'medrecon_jobs_total{{outcome="failed"}} {self.failed}',
            f'medrecon_jobs_total{{outcome="retried"}} {self.retried}',
            "# TYPE medrecon_job_seconds_total counter",
            f"medrecon_job_seconds_total {self.seconds:.3f}",
            "# TYPE medrecon_network_seconds_total counter",
            f"medrecon_network_seconds_total {self.network_seconds:.3f}",
            "# TYPE medrecon_oldest_gathering_seconds gauge",
            f"medrecon_oldest_gathering_seconds {time.time() - oldest[0][2] if oldest else 0:.1f}",
            "# TYPE medrecon_disk_free_bytes gauge",
            f"medrecon_disk_free_bytes {shutil.disk_usage(self._spool).free}",
            "# TYPE medrecon_info gauge",
            f'medrecon_info{{version="{__version__}"}} 1',
        ]
        return 200, "text/plain; version=0.0.4", "\n".join(lines) + "\n"

    def _page(self) -> tuple[int, str, str]:
        counts = self._queue.counts()
        numbers = "".join(f"<tr><td>{state}</td><td>{count}</td></tr>" for state, count in counts.items())
        rows = "".join(
            f"<tr><td>{called(job.series)}</td><td>{html.escape(job.rule)}</td><td>{job.state}</td>"
            f"<td>{job.tries or ''}</td><td>{html.escape(job.reason)}</td></tr>"
            for job in self._queue.jobs()
        )
        text = (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>medrecon</title><style>{_STYLE}</style>"
            f"<h1>medrecon {__version__}</h1><p>{html.escape(self.at_work) or 'waiting'}</p>"
            f"<h2>Series</h2><table>{numbers}</table><h2>Jobs</h2><table><tr><th>series<th>rule<th>state"
            f"<th>failed tries<th>reason</tr>{rows}</table></html>"
        )
        return 200, "text/html; charset=utf-8", text


def called(series: str) -> str:
    """A series without its UID: the key by which `medrecon scans` calls it."""
    return code(f"{series}|None")
