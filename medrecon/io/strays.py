"""Files beside the slices of a series that may be slices of it: broken, cut, emptied, under a damaged UID."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medrecon.io.dicom.reading.header import Header
from medrecon.io.scan import ScanError

_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_SHARED = ("StudyInstanceUID", "SeriesNumber", "Modality", "FrameOfReferenceUID", "Rows", "Columns")
_FEW = 0.1  # of a series' slices: so many at most went astray; more are another series


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read, and what is known of where it belongs.

    Attributes:
        error: its refusal.
        series_uid: of a DICOM file whose header was readable that far, else "".
        dicom: whether it is DICOM at all.
        remains: what speaks for it being the rest of a DICOM file, or "".
        zeros: whether it begins with zeros, as a DICOM preamble does.
    """

    error: ScanError
    series_uid: str = ""
    dicom: bool = False
    remains: str = ""
    zeros: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return self.error.path or Path()

    @property
    def empty(self) -> bool:
        """Whether it has no byte: said beside a whole series, not refused."""
        return self.error.message.startswith("is empty")

    @property
    def why(self) -> str:
        """What is wrong with it."""
        return f"{self.error.message} ({self.remains})" if self.remains else self.error.message


@dataclass
class Strays:
    """Which files may be lost slices of which series.

    Attributes:
        of: series -> broken files that belong to it and to no other.
        shared: broken files that may belong to several series.
        apart: series -> the larger one that its few slices fit into, and one of their files.
    """

    of: dict[str, list[Broken]] = field(default_factory=dict)
    shared: list[Broken] = field(default_factory=list)
    apart: dict[str, tuple[str, Path]] = field(default_factory=dict)


def strays(series: Mapping[str, Sequence[Header]], broken: Iterable[Broken]) -> Strays:
    """Sort broken files to the series beside which they lie.

    A file belongs to a series by its Series Instance UID; in the same folder also as DICOM without a readable
    one, by a name like those of the slices, or by remains of a preamble.
    """
    found = Strays(apart=_apart(series))
    folders: dict[Path, list[str]] = {}
    for key, headers in series.items():
        for folder in {h.path.parent for h in headers}:
            folders.setdefault(folder, []).append(key)
    by_uid = {headers[0].text("SeriesInstanceUID"): key for key, headers in series.items()}
    names: dict[str, tuple[set[str], set[tuple[str, str]]]] = {}
    for item in broken:
        if item.series_uid and item.series_uid in by_uid:
            found.of.setdefault(by_uid[item.series_uid], []).append(item)
            continue
        keys = []
        for key in folders.get(item.path.parent, ()):
            if key not in names:
                there = {h.path.name for h in series[key]}
                names[key] = there, {_kind(name) for name in there}
            uid = series[key][0].text("SeriesInstanceUID")
            if item.dicom:
                belongs = not item.series_uid or _near(item.series_uid, uid)
            else:
                belongs = item.zeros or _like(item.path.name, *names[key])
            if belongs:
                keys.append(key)
        if len(keys) == 1:
            found.of.setdefault(keys[0], []).append(item)
        elif keys:
            found.shared.append(item)
    return found


def _kind(name: str) -> tuple[str, str]:
    """What the names of the slices of one series have in common."""
    suffix = _SUFFIX.search(name)
    if suffix:
        return "suffix", suffix[0].lower()
    if re.fullmatch(r"[0-9.]+", name):
        return "numbers", ""
    if re.fullmatch(r"[0-9A-Fa-f-]{8,}", name):
        return "hexadecimal", str(len(name))
    return "pattern", re.sub(r"\d+", "#", name)


def _like(name: str, there: set[str], kinds: set[tuple[str, str]]) -> bool:
    """Whether a file is called like the slices, or like one that was fetched in part (`IM7.dcm.part`)."""
    if name.startswith("._"):  # what macOS leaves beside a file
        return False
    if _kind(name) in kinds:
        return True
    whole = name.rpartition(".")[0]
    return bool(whole) and whole not in there and _kind(whole) in kinds


def _near(one: str, other: str) -> bool:
    """Whether two UIDs may be one, damaged."""
    if not re.fullmatch(r"[0-9.]+", one):
        return True
    return len(one) == len(other) and sum(map(str.__ne__, one, other)) <= 2


def _apart(series: Mapping[str, Sequence[Header]]) -> dict[str, tuple[str, Path]]:
    """Series of few slices on the grid of a larger one that share all but the Series Instance UID with it."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for key, headers in series.items():
        first = headers[0]
        shared = tuple(first.text(name) if name[0] in "SMF" else first.integer(name) for name in _SHARED)
        if all(shared):
            alike.setdefault((first.path.parent, *shared), []).append(key)
    found = {}
    for keys in alike.values():
        keys.sort(key=lambda key: len(series[key]))
        for small in keys[:-1]:
            large = keys[-1]
            if len(series[small]) <= max(1, _FEW * len(series[large])) and _fits(
                series[small], series[large]
            ):
                found[small] = large, series[small][0].path
    return found


def _fits(few: Sequence[Header], many: Sequence[Header]) -> bool:
    """Whether slices lie in gaps of an even stack, or at its ends."""
    try:
        places = [h.numbers("ImagePositionPatient") for h in (*many, *few)]
        turns = [h.numbers("ImageOrientationPatient") for h in (*many, *few)]
    except ScanError:
        return False
    if len(many) < 2 or any(p is None or len(p) != 3 for p in places) or any(t != turns[0] for t in turns):
        return False
    if turns[0] is None or len(turns[0]) != 6:
        return False
    normal = np.cross(*np.reshape(turns[0], (2, 3)))
    points = np.asarray(places, float)
    along, here = (points[: len(many)] @ normal, points[len(many) :] @ normal)
    step = float(np.median(np.diff(np.sort(along))))
    if step <= 0:
        return False
    index = (here - along.min()) / step
    free = np.abs(here[:, None] - along).min(axis=1) > 0.5 * step
    near = (index > -len(few) - 0.5) & (index < (np.ptp(along) / step) + len(few) + 0.5)
    return bool((free & near & (np.abs(index - np.rint(index)) < 0.1)).all())
