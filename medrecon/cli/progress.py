"""Progress on stderr: bars for a person who watches, lines for a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from medrecon.cli.session import Session

Tick = Callable[[int, int], None]


@contextlib.contextmanager
def progress_bar(session: Session, label: str) -> Iterator[Tick | None]:
    """A bar that is moved by calling what this yields with (done, of); None where no bar is wanted."""
    with phase_bar(session, label) as begin:
        yield begin(label)


@contextlib.contextmanager
def phase_bar(session: Session, first: str) -> Iterator[Callable[[str], Tick | None]]:
    """One bar for work of several phases.

    Args:
        session: whose streams are used.
        first: what the first phase is called.

    Yields:
        To be called with the next phase's name; gives what moves the bar, None where no bar is wanted.
    """
    if not session.shows_progress:
        yield lambda words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
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
