"""Three stages for each of many items: the next is read and the last is written while one is computed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import psutil

from medrecon.io.scan import Scan

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")

_READ_BYTES = 8
"""Memory for each voxel of a scan while it is read: as stored, and in float32."""


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Item, Read], Made],
    write: Callable[[Made], Written],
    fits: Callable[[Item], bool] = lambda item: True,
) -> Iterator[tuple[Item, Written | Exception]]:
    """Read, compute and write each item; what fails does not stop the others.

    At most one item is read ahead and one waits to be written: three are in memory at a time.

    Args:
        items: what to do.
        read: called in a thread of its own, and so is `write`; one item after the other.
        compute: called in this thread, while others are read and written.
        fits: whether there is memory to read this item while another is computed; where there is not, all
            that was begun is ended first.

    Yields:
        Each item in turn with what `write` returned, or with what was raised instead.
    """
    upcoming = deque(items)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: Future[Read] | None = None
        begun: deque[tuple[Item, Future[Written]]] = deque()
        while upcoming:
            item = upcoming.popleft()
            reading = ahead or reader.submit(read, item)
            ahead = None
            try:
                found = reading.result()
                del reading
                together = bool(upcoming) and fits(upcoming[0])
                if together:
                    ahead = reader.submit(read, upcoming[0])
                made = compute(item, found)
                del found
            except Exception as error:
                yield from _ended(begun)
                yield item, error
                continue
            yield from _ended(begun)
            begun.append((item, writer.submit(write, made)))
            del made
            if not together:
                yield from _ended(begun)


def _ended(begun: deque[tuple[Item, Future[Written]]]) -> Iterator[tuple[Item, Written | Exception]]:
    """Wait for what is being written."""
    while begun:
        item, writing = begun.popleft()
        try:
            written: Written | Exception = writing.result()
        except Exception as error:
            written = error
        yield item, written


def fits_beside(scan: Scan) -> bool:
    """Whether a scan can be read while another is at work: with a quarter of the free memory."""
    return math.prod(scan.shape) * _READ_BYTES <= psutil.virtual_memory().available // 4
