"""Tables for people, from data that was never meant for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from medrecon.cli.faults import one_line

if TYPE_CHECKING:
    from rich.console import Console

_NARROWEST = 16
"""Characters that a column of text is given at least, before others are left out for it."""


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print a table that fits: headings are broken between words, then spare columns are left out.

    Cells are shown as they are, control characters excepted. Numbers are never broken; text is, at the last.

    Args:
        console: where it goes.
        columns: headings.
        rows: one sequence of cells each; None is shown as "-".
        right: the headings of numbers, which are aligned to the right.
        whole: further headings whose cells are never broken.
        spare: the headings to leave out where there is no room, the first one first; a line names them.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    texts = [["-" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    fixed = {*right, *whole}
    longest = {name: max((len(row[index]) for row in texts), default=0) for index, name in enumerate(columns)}

    def room(names: Sequence[str], words: bool) -> int:
        """Characters that these columns need: between two of them are three, and one on each side."""
        total = 3 * (len(names) - 1) + 2
        for name in names:
            heading = max(map(len, name.split()), default=0) if words else len(name)
            cells = longest[name] if name in fixed or not words else min(longest[name], _NARROWEST)
            total += max(heading, cells)
        return total

    narrow = room(columns, words=False) > console.width
    shown = list(columns)
    for name in spare:
        if room(shown, words=True) <= console.width:
            break
        shown.remove(name)
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        heading = _broken(name, longest[name]) if narrow and name in fixed else name
        made.add_column(
            heading,
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in fixed,
        )
    for row in texts:
        made.add_row(*(Text(row[columns.index(name)]) for name in shown))
    console.print(made)
    if len(shown) < len(columns):
        hidden = ", ".join(name for name in columns if name not in shown)
        console.print(f"not shown for want of room: {hidden} (--json has them)")


def _broken(heading: str, width: int) -> str:
    """A heading in lines that are no wider than this, or than its longest word."""
    width = max([width, *map(len, heading.split())])
    lines = [""]
    for word in heading.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
