"""Layer names that a user typed, checked against those that an encoder has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from medrecon.errors import ModelError


def resolve_layers(names: str | Iterable[str] | None, available: Iterable[str]) -> tuple[str, ...]:
    """The layers asked for, each once, in the order asked; all of them for None.

    Args:
        names: one name, several names, or None for every layer.
        available: the names the encoder has, shallow to deep.

    Raises:
        ModelError: no name at all, or a name that is not available; it tells the near ones.
    """
    known = tuple(available)
    if names is None:
        return known
    wanted = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    if not wanted:
        raise ModelError("no layer was asked for", remedy=f"choose from {_listed(known)}")
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}" if near else f"choose from {_listed(known)}"
            raise ModelError(f"there is no layer {name!r}", remedy=hint)
    return wanted


def _listed(known: tuple[str, ...], most: int = 24) -> str:
    """The names in one line, shortened for networks with hundreds of layers."""
    if len(known) <= most:
        return ", ".join(known)
    return f"{', '.join(known[:most])} ... ({len(known)} layers)"
