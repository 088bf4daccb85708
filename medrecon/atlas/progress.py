"""How far an atlas is: the network's passes, and its stages beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medrecon.contract import Progress


def halves(
    progress: Progress | None, stages: Sequence[str]
) -> tuple[Callable[[str], None], Callable[[int, int], None]]:
    """The network counts for one half, which is about what it takes, and the stages after it for the other.

    Args:
        progress: called with (hundredths of stages done, of all).
        stages: the names of those after the network, in order.

    Returns:
        What is called as a stage begins, and what is called while the network runs.
    """
    half = 100 * len(stages)

    def begin(stage: str) -> None:
        if progress is not None and stage in stages:
            progress(half + 100 * stages.index(stage), 2 * half)

    def tick(done: int, of: int) -> None:
        if progress is not None:
            progress(half * done // max(1, of), 2 * half)

    return begin, tick
