"""Stages that overlap: in order, three items at a time, and one that fails alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from medrecon.inference.prefetch import overlapped

WAIT = 20  # seconds; only a fault ever waits so long


def test_the_next_is_read_and_the_last_written_while_one_is_computed() -> None:
    reading, writing, computing = threading.Event(), threading.Event(), threading.Event()

    def read(item: int) -> int:
        if item == 2:
            reading.set()
            assert computing.wait(WAIT), "item 1 is not computed while item 2 is read"
        return item

    def compute(item: int, read: int) -> int:
        if item == 1:
            computing.set()
            assert reading.wait(WAIT), "item 2 is not read while item 1 is computed"
            assert writing.wait(WAIT), "item 0 is not written while item 1 is computed"
        return 10 * read

    def write(made: int) -> int:
        if made == 0:
            writing.set()
            assert computing.wait(WAIT), "item 1 is not computed while item 0 is written"
        return made + 1

    assert list(overlapped(range(4), read, compute, write)) == [(0, 1), (1, 11), (2, 21), (3, 31)]


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_what_fails_does_not_stop_the_others(stage: str, fits: bool) -> None:
    def at(name: str, item: int) -> int:
        if name == stage and item in (0, 2, 4):
            raise ValueError(f"{name} {item}")
        return item

    told = list(
        overlapped(
            range(5),
            lambda item: at("read", item),
            lambda item, _: at("compute", item),
            lambda item: at("write", item),
            lambda _: fits,
        )
    )
    assert [item for item, _ in told] == [0, 1, 2, 3, 4]
    assert [str(made) for _, made in told] == [f"{stage} 0", "1", f"{stage} 2", "3", f"{stage} 4"]


def test_where_two_do_not_fit_each_is_ended_before_the_next_is_begun() -> None:
    held: list[int] = []
    log: list[Any] = []

    def read(item: int) -> int:
        log.append(("read", item, list(held)))
        held.append(item)
        return item

    def write(item: int) -> int:
        held.remove(item)
        return item

    assert [item for item, _ in overlapped("abc", read, lambda _, made: made, write, lambda _: False)] == [
        *"abc"
    ]
    assert log == [("read", item, []) for item in "abc"]


def test_nothing_runs_on_when_nobody_takes_what_is_made() -> None:
    before = threading.active_count()
    made = overlapped(range(100), lambda item: item, lambda item, _: item, lambda item: item)
    assert next(made) == (0, 0)
    made.close()
    assert threading.active_count() == before
    assert list(overlapped([], lambda item: item, lambda item, _: item, lambda item: item)) == []
