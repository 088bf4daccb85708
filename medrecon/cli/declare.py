"""How an option is declared: what is typed, and what it means."""

from __future__ import annotations

from typing import Any

import typer


def option(typed: str, help: str, *, panel: str | None = None, **more: Any) -> Any:
    """An option, for `Annotated[kind, option(...)]`.

    Args:
        typed: its names and, unless it is a switch, what follows them: "--device -d auto|cpu|cuda[:N]".
        help: what it means.
        panel: the heading that it stands below in the help; "Options" where it is None.
        more: what else Typer takes, such as `min`.
    """
    words = typed.split()
    names = [word for word in words if word.startswith("-")]
    return typer.Option(
        *names, metavar=" ".join(words[len(names) :]) or None, help=help, rich_help_panel=panel, **more
    )
