"""Images of one content that share their positions, told apart: repeats, phases, overlapping stacks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrecon.io.dicom.reading.marks import RANKING, STATE, Mark, labels, natural, rank_key
from medrecon.io.dicom.reading.slices import Slice

Key = tuple[object, ...]


@dataclass(frozen=True)
class Part:
    """One volume of the slices.

    Attributes:
        label: what tells it from the others; "" where there are no others.
        key: sorts the parts.
        indices: its slices.
        note: what must be said, or "".
    """

    label: str
    key: Key
    indices: list[int]
    note: str = ""


def tell_apart(slices: Sequence[Slice], members: Sequence[int], places: np.ndarray) -> list[Part] | None:
    """Split slices so that no part has two at one position.

    Every part holds every position: by a mark each of whose values is at every position equally often, within
    these by the next such mark, and at last by the rank that a number or a time has at each position (slices
    that are taken at once share a time; phases of a heart differ from slice to slice). Where positions hold
    differently many slices: a scan that stopped early, or stacks that overlap.

    Args:
        slices: of the series.
        members: which of them.
        places: (N,) number of the position of each slice of the series.

    Returns:
        The parts, or None where nothing tells them apart for sure.
    """
    held = Counter(places[list(members)].tolist())
    if max(held.values()) == 1:
        return [Part("", (), list(members))]
    columns = _columns(slices, members)
    if len(set(held.values())) == 1:
        for name, texts in columns:
            parts = parts_by(members, texts)
            if len(parts) > 1 and all(_covers(part, held, places) for part in parts.values()):
                within = {text: tell_apart(slices, part, places) for text, part in parts.items()}
                if all(found is not None for found in within.values()):
                    return [_joined(name, text, sub) for text, found in within.items() for sub in found or ()]
        return _by_rank(slices, members, places)
    return (
        _stopped_early(members, places, held, columns)
        or _blocks(slices, members, places, held)
        or _overlapping(members, places, held, columns)
    )


def parts_by(members: Sequence[int], texts: Sequence[str]) -> dict[str, list[int]]:
    """The slices of each text."""
    parts: dict[str, list[int]] = {}
    for i, text in zip(members, texts, strict=True):
        parts.setdefault(text, []).append(i)
    return parts


def first_at_each(
    slices: Sequence[Slice], members: Sequence[int], places: np.ndarray
) -> tuple[list[int], int]:
    """The first slice at each position, by Instance Number and name, and how many others there are."""
    number = next(m for m in RANKING if m.name == "InstanceNumber")

    def order(i: int) -> tuple[tuple[float, ...], str]:
        value = rank_key(number.value(slices[i].raw(number), slices[i].header.order))
        return value or (math.inf,), slices[i].name

    first: dict[int, int] = {}
    for i in sorted(members, key=order):
        first.setdefault(int(places[i]), i)
    return sorted(first.values()), len(members) - len(first)


def _columns(slices: Sequence[Slice], members: Sequence[int]) -> list[tuple[str, list[str]]]:
    """What differs between the slices, the plainest first; dimensions of enhanced objects before times."""
    names = dict.fromkeys(name for i in members for name, _ in slices[i].dimensions)
    found = [(name, [str(dict(slices[i].dimensions).get(name, "")) for i in members]) for name in names]
    orders = [slices[i].header.order for i in members]
    for mark in STATE:
        raws = [slices[i].raw(mark) for i in members]
        if raws.count(raws[0]) < len(raws):
            found.append((mark.name, labels(mark, raws, orders)))
    return [(name, texts) for name, texts in found if len(set(texts)) > 1]


def _covers(part: Sequence[int], held: Counter[int], places: np.ndarray) -> bool:
    """Whether slices are at every position, equally often."""
    mine = Counter(places[list(part)].tolist())
    return len(mine) == len(held) and len(set(mine.values())) == 1


def _joined(name: str, text: str, part: Part) -> Part:
    label = f"{name} {text or 'none'}"
    return Part(
        f"{label}, {part.label}" if part.label else label, (natural(text), *part.key), part.indices, part.note
    )


@dataclass(frozen=True)
class _Ranks:
    """The rank of each slice at its position by a mark; what it is sorted by, and shown as ("" for times)."""

    name: str
    ranks: dict[int, int]
    keys: dict[int, tuple[float, ...]]
    shown: dict[int, str]

    def parts(self, note: str = "") -> list[Part]:
        """The slices of each rank."""
        made = []
        found: dict[int, list[int]] = {}
        for i, rank in self.ranks.items():
            found.setdefault(rank, []).append(i)
        for rank, part in sorted(found.items()):
            ends = min(part, key=self.keys.__getitem__), max(part, key=self.keys.__getitem__)
            span = "-".join(dict.fromkeys(self.shown[i] for i in ends)) or f"no. {rank + 1}"
            made.append(Part(f"{self.name} {span}", ((1, (rank,), ""),), part, note))
        return made


def _ranks(slices: Sequence[Slice], members: Sequence[int], places: np.ndarray, mark: Mark) -> _Ranks | None:
    """The ranks by a mark; None where two slices at one position have the same value, or one has none."""
    keys: dict[int, tuple[float, ...]] = {}
    shown: dict[int, str] = {}
    at: dict[int, list[int]] = {}
    for i in members:
        value = mark.value(slices[i].raw(mark), slices[i].header.order)
        key = rank_key(value)
        if key is None:
            return None
        keys[i], shown[i] = key, "" if isinstance(value, str) else f"{value[0]:.10g}"
        at.setdefault(int(places[i]), []).append(i)
    if any(len({keys[i] for i in group}) < len(group) for group in at.values()):
        return None
    ranks = {i: rank for group in at.values() for rank, i in enumerate(sorted(group, key=keys.__getitem__))}
    name = "Instance Numbers" if mark.name == "InstanceNumber" else mark.name
    return _Ranks(name, {i: ranks[i] for i in members}, keys, shown)


def _by_rank(slices: Sequence[Slice], members: Sequence[int], places: np.ndarray) -> list[Part] | None:
    """Volumes by the rank at each position; said where Instance Numbers contradict the mark taken."""
    found = [known for mark in RANKING if (known := _ranks(slices, members, places, mark))]
    if not found:
        return None
    other = any(known.name == "Instance Numbers" and known.ranks != found[0].ranks for known in found)
    said = f"volumes are told apart by {found[0].name}; Instance Numbers give another order"
    return found[0].parts(said if other else "")


def _stopped_early(
    members: Sequence[int],
    places: np.ndarray,
    held: Counter[int],
    columns: Sequence[tuple[str, list[str]]],
) -> list[Part] | None:
    """A mark under which no volume has two slices at one position, and some hold every position."""
    for name, texts in columns:
        parts = parts_by(members, texts)
        sets = [set(places[part].tolist()) for part in parts.values()]
        once = all(len(s) == len(part) for s, part in zip(sets, parts.values(), strict=True))
        if len(parts) > 1 and once and any(len(s) == len(held) for s in sets):
            return [_joined(name, text, Part("", (), part)) for text, part in parts.items()]
    return None


def _blocks(
    slices: Sequence[Slice], members: Sequence[int], places: np.ndarray, held: Counter[int]
) -> list[Part] | None:
    """Volumes one after the other by number or time, of which only the last lacks positions.

    Without that order a slice that is lost would shift all later ones at its position into another volume.
    """
    for mark in RANKING:
        known = _ranks(slices, members, places, mark)
        if known is None:
            continue
        parts: dict[int, list[tuple[float, ...]]] = {}
        for i in members:
            parts.setdefault(known.ranks[i], []).append(known.keys[i])
        last = max(parts)
        if len(parts[last]) > 1 and all(
            len(parts[rank]) == len(held) and max(parts[rank]) < min(parts[rank + 1]) for rank in range(last)
        ):
            return known.parts()
    return None


def _overlapping(
    members: Sequence[int],
    places: np.ndarray,
    held: Counter[int],
    columns: Sequence[tuple[str, list[str]]],
) -> list[Part] | None:
    """Stacks that overlap in part: a mark each of whose values has another run of neighbouring positions."""
    order = {place: k for k, place in enumerate(sorted(held))}
    for name, texts in columns:
        parts = parts_by(members, texts)
        runs = [sorted(order[p] for p in places[part].tolist()) for part in parts.values()]
        if (
            len(parts) > 1
            and all(len(run) > 1 and run == list(range(run[0], run[0] + len(run))) for run in runs)
            and len({(run[0], run[-1]) for run in runs}) == len(runs)
        ):
            return [_joined(name, text, Part("", (), part)) for text, part in parts.items()]
    return None
