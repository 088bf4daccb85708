"""The progress of several passes as one."""

from __future__ import annotations

from collections.abc import Iterator

from medrecon.contract import Progress


def passes_of(progress: Progress | None, count: int) -> Iterator[Progress | None]:
    """For each of so many passes of a network what it tells its progress to: the whole only moves on."""
    for n in range(count):
        yield None if progress is None else _shifted(progress, n, count)


def _shifted(progress: Progress, n: int, count: int) -> Progress:
    return lambda done, of: progress(n * of + done, count * of)
