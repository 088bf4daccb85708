"""Names of layers and channels that a user typed, checked against those that an encoder has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from medrecon.errors import ModelError, ScanError, near

Given = TypeVar("Given")


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
            alike = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(alike)}" if alike else f"choose from {_listed(known)}"
            raise ModelError(f"there is no layer {name!r}", remedy=hint)
    return wanted


def _listed(known: tuple[str, ...], most: int = 24) -> str:
    """The names in one line, shortened for networks with hundreds of layers."""
    if len(known) <= most:
        return ", ".join(known)
    return f"{', '.join(known[:most])} ... ({len(known)} layers)"


def known_channel(name: str, names: Sequence[str]) -> int:
    """The place of a channel among the names of a network's channels, in any case.

    Raises:
        ModelError: it has none of that name.
    """
    known = [each.casefold() for each in names]
    if name.casefold() in known:
        return known.index(name.casefold())
    remedy = f"its channels are {', '.join(names)}"
    raise ModelError(
        f"the network has no channel '{name}'" + near(name, names),
        remedy=remedy if names else "it takes one scan: leave --encoder-channels out",
    )


def in_order(names: Sequence[str], given: Mapping[str, Given]) -> tuple[Given, ...]:
    """What is given for each of a network's channels, in their order.

    Args:
        names: of its channels (`Encoder.channel_names`); none where it takes one scan.
        given: name, in any case -> a scan, or whatever stands for it.

    Raises:
        ModelError: a name that it does not have.
        ScanError: a channel for which nothing is given.
    """
    placed = {known_channel(name, names): each for name, each in given.items()}
    for place, name in enumerate(names):
        if place not in placed:
            raise ScanError(
                f"the channel '{name}' is missing: the network takes {len(names)} scans",
                remedy=f"name a scan for each of {', '.join(names)} with --encoder-channels",
            )
    return tuple(placed[place] for place in range(len(names)))
