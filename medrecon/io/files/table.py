"""Tables as CSV, in one way for all: no cell is code to a spreadsheet."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CODE = re.compile(r"(^\s*|[;\t\r\n])(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet would begin to run a text: at its start, and after what some take for a separator."""


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV under their columns, with a line for the headings.

    What is None, infinite or NaN stays empty; bytes of file names that are no Unicode stand as escapes. A
    text that a spreadsheet would run gets an apostrophe before it, which means "this is text" there.

    Args:
        rows: column -> value.
        columns: their order; by default all that occur, in the order met.
    """
    rows = list(rows)
    names = list(columns or dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([cell(name) for name in names])
    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    """What stands in a table for a value."""
    if isinstance(value, str):
        plain = value.replace("\0", "").encode("utf-8", "backslashreplace").decode("utf-8")
        return plain if _is_number(plain) else _CODE.sub(r"\1'", plain)
    return finite(value)


def finite(value: Any) -> Any:
    """The value, or None for what tables and JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", text) is not None
