"""Progress bars on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from medrecon.commands.session import Session

Tick = Callable[[int, int], None]


@contextlib.contextmanager
def progress_bar(session: Session, label: str) -> Iterator[Tick | None]:
    """A bar that is moved by calling what this yields with (done, of); None where no bar is wanted."""
    if not session.shows_progress:
        yield None
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
        task = progress.add_task(label, total=None)

        def tick(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        yield tick
