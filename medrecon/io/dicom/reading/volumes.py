"""A series to its volumes: one kind of image each, every position once (4D, echoes, contrasts, mixtures)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrecon.io.dicom.reading.columns import (
    Column,
    alternating_columns,
    content_columns,
    grid_columns,
    grouped,
)
from medrecon.io.dicom.reading.marks import THICKNESS, labels, natural
from medrecon.io.dicom.reading.repeats import Part, first_at_each, parts_by, tell_apart
from medrecon.io.dicom.reading.slices import Slice
from medrecon.io.distances import places_of
from medrecon.io.geometry import check_orientation
from medrecon.io.scan import ReadOptions, ScanError, or_accept

KEEP = "keep the slices of one volume only"
SHOWN = 12


@dataclass(frozen=True)
class Choice:
    """The slices of the wanted volume.

    Attributes:
        indices: of the slices.
        volume: which volume of the series that is; None where there is one.
        notes: what must be said.
    """

    indices: list[int]
    volume: int | None
    notes: tuple[str, ...] = ()


def split_volumes(slices: Sequence[Slice], volume: int | None, options: ReadOptions, path: Path) -> Choice:
    """Choose the slices of one volume.

    Slices on another grid, or of another content (`marks.CONTENT`), are another volume wherever they lie.
    Slices of one content that share their positions are told apart by `repeats.tell_apart`.

    Args:
        slices: all slices of the series.
        volume: which volume, counted from 0; None where there must be only one.
        options: what the user allows.
        path: the series, for the message.

    Raises:
        ScanError: several volumes and none chosen, a choice that is not there, or slices at one position that
            nothing tells apart.
    """
    grids, contents = grid_columns(slices), content_columns(slices)
    stacks = grouped(grids, list(range(len(slices))))
    places = np.zeros(len(slices), int)
    for members in stacks.values():
        normal = np.cross(*check_orientation(slices[members[0]].orientation, slices[members[0]].header.path))
        places[members] = places_of(np.asarray([slices[i].position for i in members]) @ normal)
    alone = all(len(set(places[m].tolist())) == len(m) for m in stacks.values())
    notes: tuple[str, ...] = ()
    if not contents and not grids and alone:
        contents = alternating_columns(slices, places)
    if contents and alone and options.accepts("mixed"):
        notes = (f"slices that differ in {_names(contents)} are read as one volume",)
        contents = []
    columns = [*grids, *contents]
    found: list[Part] = []
    for label, members in grouped(columns, list(range(len(slices)))).items():
        found += _volumes(slices, members, places, label, columns, options, path)
    found.sort(key=lambda v: v.key)
    notes += tuple(v.note for v in found if v.note)[:1]
    if len(found) == 1:
        if volume not in (None, 0):
            raise ScanError(
                f"there is no volume {volume}: the series holds one", path=path, remedy="use --volume 0"
            )
        return Choice(found[0].indices, None, notes)
    short = _short(found, places, stacks)
    if volume is None or not 0 <= volume < len(found):
        raise _which(slices, found, columns, short, alone and not grids, path)
    chosen = found[volume]
    said = [f"volume {k} holds {n} of the {m} positions" for k, (n, m) in list(short.items())[:3]]
    return Choice(chosen.indices, volume, (*notes, *said))


def _volumes(
    slices: Sequence[Slice],
    members: list[int],
    places: np.ndarray,
    label: tuple[str, ...],
    columns: Sequence[Column],
    options: ReadOptions,
    path: Path,
) -> list[Part]:
    """The volumes of slices of one grid and one content."""
    thick = labels(
        THICKNESS, [slices[i].raw(THICKNESS) for i in members], [slices[i].header.order for i in members]
    )
    groups = [members]
    if len(set(zip(places[members].tolist(), thick, strict=True))) > len(set(places[members].tolist())):
        groups = [part for _, part in sorted(parts_by(members, thick).items(), key=lambda p: natural(p[0]))]
    made = []
    telling = _telling(columns)
    for k, group in enumerate(groups):
        parts: list[Part] | None = tell_apart(slices, group, places)
        if parts is None:
            if not options.accepts("same-position"):
                raise _same_position(slices, group, places, path)
            kept, dropped = first_at_each(slices, group, places)
            note = f"{dropped} slice(s) at the position of another one are not read: the first by number is"
            parts = [Part("", (), kept, note)]
        for part in parts:
            texts = [f"{n} {text or 'none'}" for (n, _), text in zip(columns, label, strict=True)]
            if len(groups) > 1:
                texts.append(f"SliceThickness {thick[members.index(group[0])]}")
            shown = [texts[i] for i in telling] + texts[len(columns) :]
            key = (*map(natural, label), k, *part.key)
            made.append(
                Part(", ".join([*shown, *([part.label] if part.label else [])]), key, part.indices, part.note)
            )
    return made


def _telling(columns: Sequence[Column]) -> list[int]:
    """The columns that are needed to tell all groups apart, the plainest first."""
    kept: list[int] = []
    seen: set[tuple[str, ...]] = {()}
    for k in range(len(columns)):
        finer = set(zip(*(columns[i][1] for i in (*kept, k)), strict=True))
        if len(finer) > len(seen):
            kept.append(k)
            seen = finer
    return kept


def _names(columns: Sequence[Column]) -> str:
    return " and ".join(columns[k][0] for k in _telling(columns))


def _short(
    found: Sequence[Part], places: np.ndarray, stacks: dict[tuple[str, ...], list[int]]
) -> dict[int, tuple[int, int]]:
    """Volumes that lack positions of others: number -> (how many they hold, of how many)."""
    stack_of = {i: k for k, members in enumerate(stacks.values()) for i in members}
    held = [(stack_of[v.indices[0]], frozenset(places[v.indices].tolist())) for v in found]
    kinds = set(held)
    short = {}
    for k, (stack, mine) in enumerate(held):
        union = frozenset().union(*(other for same, other in kinds if same == stack and other & mine))
        if len(union) > len(mine):
            short[k] = (len(mine), len(union))
    return short


def _which(
    slices: Sequence[Slice],
    found: Sequence[Part],
    columns: Sequence[Column],
    short: dict[int, tuple[int, int]],
    joinable: bool,
    path: Path,
) -> ScanError:
    """The refusal that lists the volumes, or names the one slice that is of another kind than all others."""
    remedy = f"choose one with --volume 0 ... {len(found) - 1}"
    accept = or_accept("mixed") if joinable else ""
    big = [k for k, v in enumerate(found) if len(v.indices) > 1]
    if not big:
        names = f"{slices[found[0].indices[0]].name} and {slices[found[1].indices[0]].name}"
        if len({slices[v.indices[0]].position for v in found}) == 1:
            what = f"all {len(found)} images are at one position ({names}): no volume"
            return ScanError(what, path=path, remedy=f"{remedy}, of a single slice")
    if len(big) == 1 and columns:
        odd = next(v for k, v in enumerate(found) if k not in big).indices[0]
        usual = found[big[0]].indices[0]
        name, texts = next((n, t) for n, t in columns if t[odd] != t[usual])
        has, have = ("none" if not text else f"'{text}'" for text in (texts[odd], texts[usual]))
        if "no. " in has + have:
            has, have = "another one", "the same"
        return ScanError(
            f"slices differ in {name}: {slices[odd].name} has {has}, "
            f"{len(found[big[0]].indices)} others have {have}",
            path=slices[odd].header.path,
            remedy=f"separate what does not belong to the volume, or take the others alone with "
            f"--volume {big[0]}{accept}",
        )
    sizes = [
        f"{len(v.indices)}{f' of {short[k][1]}' if k in short else ''} slice{'s' * (len(v.indices) > 1)}"
        for k, v in enumerate(found)
    ]
    listed = [f"{k} ({v.label}: {sizes[k]})" for k, v in enumerate(found[:SHOWN])]
    more = ", ..." if len(found) > SHOWN else ""
    differ = f" that differ in {_names(columns)}" if columns else " at the same positions"
    return ScanError(
        f"holds {len(found)} volumes{differ}: {', '.join(listed)}{more}", path=path, remedy=remedy + accept
    )


def _same_position(slices: Sequence[Slice], members: list[int], places: np.ndarray, path: Path) -> ScanError:
    values, counts = np.unique(places[members], return_counts=True)
    place = values[int(np.argmax(counts > 1))]
    pair = [slices[i].name for i in members if places[i] == place][:2]
    many = (
        f"{int((counts > 1).sum())} of {len(values)} positions hold several"
        if counts.min() < counts.max()
        else (f"each position holds {counts[0]}")
    )
    return ScanError(
        f"different slices at the same position: {pair[0]} and {pair[1]} for example; {many}, and no mark, "
        "time or Instance Number tells whole volumes apart",
        path=path,
        remedy=KEEP + or_accept("same-position"),
    )
