"""Tables and notes for people, from data that was never meant for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from medrecon.cli.faults import one_line

if TYPE_CHECKING:
    from rich.table import Table


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """A table whose cells are shown as they are, control characters excepted.

    Args:
        columns: headings.
        rows: one sequence of cells each; None is shown as "-".
        right: the headings whose cells are aligned to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text("-" if cell is None else one_line(str(cell))) for cell in row))
    return made
