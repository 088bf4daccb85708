"""What must be said about a scan and does not stop it: heard by whoever works on it, else warned of.

Python's own `warnings` are one list for all threads; here each thread hears what is said in it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def notice(text: str, category: type[Warning]) -> None:
    """Say one line: to who listens in this thread, else as a warning of this category."""
    heard = _heard.get()
    if heard is None:
        warnings.warn(text, category, stacklevel=3)
    else:
        heard.append(text)


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Within: what is said in this thread goes into the list, and no further."""
    heard: list[str] = []
    before = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(before)
