"""Progress on stderr: bars for a person who watches, a line from time to time for a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from medrecon.cli.session import Session

Tick = Callable[[int, int], None]

LINE_EVERY = 30.0
"""Seconds between two lines of a log."""


@contextlib.contextmanager
def progress_bar(session: Session, label: str, unit: str = "") -> Iterator[Tick | None]:
    """A bar that is moved by calling what this yields with (done, of); None where nothing is to be said.

    Args:
        session: whose streams are used.
        label: what is at work.
        unit: what is counted, such as "slices"; "" shows a percentage.
    """
    with phase_bar(session, label, unit) as begin:
        yield begin(label)


@contextlib.contextmanager
def phase_bar(session: Session, first: str, unit: str = "") -> Iterator[Callable[[str], Tick | None]]:
    """One bar for work of several phases.

    Args:
        session: whose streams are used.
        first: what the first phase is called.
        unit: what is counted, such as "slices"; "" shows a percentage.

    Yields:
        To be called with the next phase's name; gives what moves the bar, None where nothing is to be said.
    """
    if session.quiet or session.json:
        yield lambda words: None
        return
    if not session.shows_progress:
        yield lambda words: _Lines(session, words, unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    count = (MofNCompleteColumn(), TextColumn(unit, markup=False)) if unit else (TaskProgressColumn(),)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(first, total=None)

        def tick(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        def begin(words: str) -> Tick:
            nonlocal task
            progress.remove_task(task)
            task = progress.add_task(words, total=None)
            return tick

        yield begin


class _Lines:
    """Says how far one phase is, once it takes long."""

    def __init__(self, session: Session, label: str, unit: str) -> None:
        self.session, self.label, self.unit = session, label, unit
        self.began = self.said = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        from medrecon.cohort.progress import duration

        now = time.monotonic()
        if now - self.said < LINE_EVERY or not 0 < done < of:
            return
        self.said = now
        count = f"{done} of {of} {self.unit}" if self.unit else f"{done / of:.0%}"
        left = (now - self.began) / done * (of - done)
        self.session.say(f"{self.label}: {count}, about {duration(left)} left")


@contextlib.contextmanager
def long_work(
    session: Session, total: int, *, every: float, first: str
) -> Iterator[Callable[[int, Callable[[], str]], None]]:
    """A bar with words of its own for a person who watches, else a line from time to time.

    Args:
        session: whose streams are used.
        total: steps in all.
        every: seconds between two lines.
        first: what the bar says before the first step.

    Yields:
        To be called with (done, words); the words are made only when they are shown.
    """
    if session.shows_progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(first, total=total)
            yield lambda done, words: progress.update(
                task, completed=done, description=words() if done else first
            )
        return
    said = time.monotonic()

    def line(done: int, words: Callable[[], str]) -> None:
        nonlocal said
        if time.monotonic() - said >= every:
            said = time.monotonic()
            session.say(words())

    yield line
