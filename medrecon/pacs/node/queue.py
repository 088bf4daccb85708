"""What has arrived and what is to be done, in SQLite: a killed node goes on where it was.

A series gathers instances; when it is whole, each rule that wants it makes a job. All that is true of a
series is in one transaction. Times are seconds since 1970.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GATHERING, IGNORED, WAITING, DONE, FAILED = "gathering", "ignored", "waiting", "done", "failed"
STATES = (GATHERING, WAITING, DONE, FAILED, IGNORED)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    series TEXT NOT NULL, uid TEXT NOT NULL, sha256 TEXT NOT NULL, here INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (series, uid));
CREATE TABLE IF NOT EXISTS series (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, calling TEXT NOT NULL, modality TEXT NOT NULL,
    changed REAL NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    series TEXT NOT NULL, rule TEXT NOT NULL, content TEXT NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, next REAL NOT NULL, finished REAL, reason TEXT NOT NULL DEFAULT '',
    sent INTEGER NOT NULL DEFAULT 0, late INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (series, rule, content));
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, next);
"""
_JOB = "rule, content, jobs.state, tries, reason, late"


@dataclass(frozen=True)
class Job:
    """One series for one rule.

    Attributes:
        series: its SeriesInstanceUID.
        rule: its name.
        content: hash of the series' instances.
        state: `WAITING`, `DONE` or `FAILED`.
        tries: attempts that failed.
        reason: why the last one did.
        late: whether a result of fewer of its instances has been sent before.
    """

    series: str
    rule: str
    content: str
    state: str = WAITING
    tries: int = 0
    reason: str = ""
    late: bool = False


class Queue:
    """The queue of one node; safe to use from several threads.

    Args:
        path: of the database, which is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600, exist_ok=True)
        self._lock = threading.RLock()
        self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = FULL")
        self._base.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._base.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def known(self, series: str, uid: str) -> str | None:
        """The hash of an instance that has arrived; None for a new one."""
        with self._lock:
            row = self._base.execute(
                "SELECT sha256 FROM instances WHERE series = ? AND uid = ?", (series, uid)
            ).fetchone()
        return None if row is None else str(row[0])

    def add(
        self, series: str, uid: str, sha256: str, *, study: str, calling: str, modality: str, now: float
    ) -> None:
        """Note an instance that is on the disk; its series gathers, also where it was done before."""
        with self._transaction() as base:
            base.execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, 1)", (series, uid, sha256))
            base.execute(
                "INSERT INTO series VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (uid) DO UPDATE SET changed = excluded.changed, state = excluded.state",
                (series, study, calling, modality, now, GATHERING),
            )

    def gathering(self) -> list[tuple[str, str, float, int]]:
        """Series that are not whole: UID, who sent it, when the last instance came, how many there are."""
        with self._lock:
            return self._base.execute(
                "SELECT uid, calling, changed, "
                "(SELECT COUNT(*) FROM instances WHERE instances.series = series.uid AND here) "
                "FROM series WHERE state = ? ORDER BY changed",
                (GATHERING,),
            ).fetchall()

    def whole(self, series: str, rules: list[str], *, seen: float, now: float) -> bool:
        """A series is whole: a job for each of its rules, unless the same was done before.

        A job of fewer instances goes, unless some of its result has been sent: that is then sent to its end.

        Args:
            series: which.
            rules: those that want it; none of them, and it is ignored.
            seen: when its last instance had come; False is returned when another has come since.
            now: the time.
        """
        with self._transaction() as base:
            row = base.execute("SELECT changed FROM series WHERE uid = ?", (series,)).fetchone()
            if row is None or row[0] != seen:
                return False
            content = self._content(series)
            for rule in rules:
                others = "FROM jobs WHERE series = ? AND rule = ? AND content != ?"
                asked = (series, rule, content)
                late = base.execute(f"SELECT COALESCE(MAX(sent), 0) {others}", asked).fetchone()[0]
                unsent = "AND (state = ? OR state = ? AND NOT sent)"
                base.execute(f"DELETE {others} {unsent}", (*asked, FAILED, WAITING))
                base.execute(
                    "INSERT INTO jobs (series, rule, content, state, next, late) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET state = excluded.state, tries = 0, next = excluded.next "
                    "WHERE state = ?",
                    (*asked, WAITING, now, late, FAILED),
                )
            state = WAITING if rules else IGNORED
            base.execute("UPDATE series SET state = ? WHERE uid = ?", (state, series))
            self._settle(series)
        return True

    def _content(self, series: str) -> str:
        rows = self._base.execute(
            "SELECT uid, sha256 FROM instances WHERE series = ? ORDER BY uid", (series,)
        ).fetchall()
        return hashlib.sha256("\n".join(f"{uid} {sha}" for uid, sha in rows).encode()).hexdigest()

    def next_job(self, now: float) -> Job | None:
        """The job that has waited longest and may be tried now."""
        with self._lock:
            row = self._base.execute(
                f"SELECT jobs.series, {_JOB} FROM jobs "
                "JOIN series ON series.uid = jobs.series AND series.state = ? "
                "WHERE jobs.state = ? AND next <= ? ORDER BY next LIMIT 1",
                (WAITING, WAITING, now),
            ).fetchone()
        return None if row is None else _job(row)

    def sending(self, job: Job) -> None:
        """Some of its result may be at the destination from now on."""
        with self._transaction() as base:
            base.execute(
                "UPDATE jobs SET sent = 1 WHERE series = ? AND rule = ? AND content = ?",
                (job.series, job.rule, job.content),
            )

    def finish(self, job: Job, now: float) -> None:
        """A job is done."""
        self._end(job, DONE, "", now)

    def give_up(self, job: Job, reason: str, now: float) -> None:
        """A job fails for good."""
        self._end(job, FAILED, reason, now)

    def _end(self, job: Job, state: str, reason: str, now: float) -> None:
        with self._transaction() as base:
            base.execute(
                "UPDATE jobs SET state = ?, reason = ?, finished = ? "
                "WHERE series = ? AND rule = ? AND content = ?",
                (state, reason, now, job.series, job.rule, job.content),
            )
            self._settle(job.series)

    def _settle(self, series: str) -> None:
        """A series whose jobs have all ended has ended too; one that gathers again goes on gathering."""
        self._base.execute(
            "UPDATE series SET state = CASE WHEN EXISTS "
            "(SELECT 1 FROM jobs WHERE jobs.series = series.uid AND state = ?) THEN ? ELSE ? END "
            "WHERE uid = ? AND state = ? AND NOT EXISTS "
            "(SELECT 1 FROM jobs WHERE jobs.series = series.uid AND state = ?)",
            (FAILED, FAILED, DONE, series, WAITING, WAITING),
        )

    def again(self, job: Job, reason: str, at: float) -> None:
        """A job is to be tried again at a time."""
        with self._transaction() as base:
            base.execute(
                "UPDATE jobs SET tries = tries + 1, reason = ?, next = ? "
                "WHERE series = ? AND rule = ? AND content = ?",
                (reason, at, job.series, job.rule, job.content),
            )

    def retry_failed(self, now: float) -> int:
        """Try again what was given up; returns how many jobs."""
        with self._transaction() as base:
            count = base.execute(
                "UPDATE jobs SET state = ?, tries = 0, next = ? WHERE state = ?", (WAITING, now, FAILED)
            ).rowcount
            base.execute("UPDATE series SET state = ? WHERE state = ?", (WAITING, FAILED))
        return count

    def ended(self, before: float) -> list[str]:
        """Series whose files may go: ignored ones, and those that ended before a time."""
        with self._lock:
            rows = self._base.execute(
                "SELECT uid FROM series WHERE state = ? OR (state = ? AND "
                "(SELECT MAX(finished) FROM jobs WHERE jobs.series = series.uid) <= ?)",
                (IGNORED, DONE, before),
            ).fetchall()
        return [str(row[0]) for row in rows]

    def forget(self, series: str) -> bool:
        """A series has ended and its files go.

        Its jobs stay, and what its instances were: one that is sent again is no new series of one slice.
        """
        with self._transaction() as base:
            gone = base.execute(
                "DELETE FROM series WHERE uid = ? AND state IN (?, ?)", (series, IGNORED, DONE)
            ).rowcount
            if gone:
                base.execute("UPDATE instances SET here = 0 WHERE series = ?", (series,))
        return bool(gone)

    def instances(self, series: str, *, here: bool = True) -> list[str]:
        """The UIDs of a series whose files are kept, or of those whose files are gone."""
        with self._lock:
            rows = self._base.execute(
                "SELECT uid FROM instances WHERE series = ? AND here = ? ORDER BY uid", (series, int(here))
            ).fetchall()
        return [str(row[0]) for row in rows]

    def jobs_left(self) -> list[Job]:
        """The jobs that are to be done."""
        with self._lock:
            rows = self._base.execute(
                f"SELECT series, {_JOB} FROM jobs WHERE jobs.state = ?", (WAITING,)
            ).fetchall()
        return [_job(row) for row in rows]

    def series(self) -> list[str]:
        """The series whose files are kept."""
        with self._lock:
            return [uid for (uid,) in self._base.execute("SELECT uid FROM series")]

    def counts(self) -> dict[str, int]:
        """How many series are in each state; those that are done and forgotten count as done."""
        with self._lock:
            rows = dict(self._base.execute("SELECT state, COUNT(*) FROM series GROUP BY state").fetchall())
            forgotten = self._base.execute(
                "SELECT COUNT(DISTINCT series) FROM jobs WHERE series NOT IN (SELECT uid FROM series)"
            ).fetchone()[0]
        return {state: rows.get(state, 0) + (forgotten if state == DONE else 0) for state in STATES}

    def jobs(self, most: int = 200) -> list[Job]:
        """The jobs, those that wait and fail first."""
        with self._lock:
            rows = self._base.execute(
                f"SELECT series, {_JOB} FROM jobs ORDER BY state = ?, COALESCE(finished, next) DESC LIMIT ?",
                (DONE, most),
            ).fetchall()
        return [_job(row) for row in rows]


def _job(row: tuple[Any, ...]) -> Job:
    *known, late = row
    series, rule, content, state, tries, reason = known
    return Job(series, rule, content, state, tries, reason, bool(late))
