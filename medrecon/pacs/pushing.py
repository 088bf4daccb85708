"""DICOM files to a PACS: what is there already, equal, is not sent again; what is sent is seen there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from medrecon.errors import OutputError
from medrecon.io.files.walk import walk
from medrecon.io.scan import LeftOut, ScanError
from medrecon.pacs.archive import Archive, ArchiveError
from medrecon.pacs.equal import same_object
from medrecon.pacs.series import code

_HEADER = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
_LOOKS, _PAUSE = 5, 0.5
Tick = Callable[[int, int], None]


class Undelivered(OutputError):
    """A PACS did not take what was sent."""


@dataclass
class Outgoing:
    """One series of files.

    Attributes:
        study, uid: its UIDs.
        label: a name without identity.
        files: SOPInstanceUID -> file.
        classes: SOPInstanceUID -> SOPClassUID.
    """

    study: str
    uid: str
    label: str
    files: dict[str, Path] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pushed:
    """What became of one series.

    Attributes:
        series: which.
        sent: instances that were sent.
        there: instances that were there already, equal.
        refused: files that the PACS did not take, each with its reason.
        seen: whether the PACS was asked, and lists all of them now.
    """

    series: Outgoing
    sent: int
    there: int
    refused: tuple[tuple[Path, str], ...] = ()
    seen: bool = True


def outgoing(sources: Sequence[Path]) -> tuple[list[Outgoing], list[LeftOut]]:
    """The DICOM series below files and folders, and what is no DICOM.

    Raises:
        ScanError: there is no DICOM file, or one is broken.
    """
    found: dict[str, Outgoing] = {}
    left_out: list[LeftOut] = []
    for source in sources:
        for item in walk(source):
            if isinstance(item, LeftOut):
                left_out.append(item)
                continue
            header = _header(item)
            if header is None:
                left_out.append(LeftOut(item, "no DICOM file"))
                continue
            uids = [str(header.get(keyword, "")) for keyword in _HEADER]
            if not all(uids[:4]):
                raise ScanError("lacks a UID", path=item, remedy="leave it out")
            study, series, uid, kind, modality = uids
            label = f"{modality or 'series'}_{code(f'{series}|None')}"
            mine = found.setdefault(series, Outgoing(study, series, label))
            if mine.study != study:
                raise ScanError("its series is of two studies", path=item, remedy="push one of them")
            twin = mine.files.setdefault(uid, item)
            if twin != item and twin.read_bytes() != item.read_bytes():
                raise ScanError(f"has the UID of {twin.name}", path=item, remedy="push one of them")
            mine.classes[uid] = kind
    if not found:
        raise ScanError(
            "no DICOM file", path=sources[0], remedy="a PACS takes DICOM: write it with --format dicom"
        )
    return list(found.values()), left_out


def push(archive: Archive, series: Outgoing, progress: Tick | None = None) -> Pushed:
    """Send what a PACS does not have of a series.

    Args:
        archive: which PACS.
        series: see `outgoing`.
        progress: called with (instances dealt with, instances in all).

    Raises:
        Undelivered: the transfer broke off, another object with one of the UIDs is there, or what was sent
            is not there afterwards. The same command goes on.
    """
    total = len(series.files)
    try:
        there = _there_already(archive, series) if archive.node.query else set()
        files = [path for uid, path in series.files.items() if uid not in there]
        refused: list[tuple[Path, str]] = []
        for number, (path, why) in enumerate(archive.store(files) if files else (), start=len(there) + 1):
            if why:
                refused.append((path, why))
            if progress is not None:
                progress(number, total)
        taken = {uid for uid, path in series.files.items() if path not in {path for path, _ in refused}}
        if archive.node.query and files:
            _see(archive, series, taken)
    except ArchiveError as error:
        raise Undelivered(error.message, remedy=error.remedy) from error
    return Pushed(series, len(files) - len(refused), len(there), tuple(refused), archive.node.query)


def _there_already(archive: Archive, series: Outgoing) -> set[str]:
    """The instances that the PACS has.

    Raises:
        Undelivered: it has another object with one of the UIDs.
    """
    listed = archive.instances(series.study, series.uid)
    common = {uid: kind for uid, kind in series.classes.items() if uid in listed}
    equal: set[str] = set()

    def compare(data: bytes) -> None:
        theirs = pydicom.dcmread(BytesIO(data))
        uid = str(theirs.SOPInstanceUID)
        if uid not in common:
            return
        if not same_object(pydicom.dcmread(series.files[uid]), theirs):
            raise Undelivered(
                f"pacs:{archive.node.name} has another object with the UID of {series.files[uid].name}",
                path=series.files[uid].parent,
                remedy="nothing of this series was sent: see who made the other",
            )
        equal.add(uid)

    if common:
        archive.fetch(series.study, series.uid, common, whole=len(common) == len(listed), keep=compare)
    return equal


def _see(archive: Archive, series: Outgoing, taken: set[str]) -> None:
    """Look until the PACS lists what it took; some do so after a while.

    Raises:
        Undelivered: it does not.
    """
    lacking = taken
    for look in range(_LOOKS):
        lacking = taken - archive.instances(series.study, series.uid).keys()
        if not lacking:
            return
        time.sleep(_PAUSE * 2**look)
    raise Undelivered(
        f"pacs:{archive.node.name}: took {series.label}, of which {len(lacking)} instances are not there",
        remedy="see its log; the same command sends them again",
    )


def _header(path: Path) -> Dataset | None:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    except InvalidDicomError:
        return None
    except OSError as error:
        raise ScanError(f"cannot be read ({error.strerror})", path=path, remedy="check it") from None
    except Exception as error:  # whatever a broken header can raise
        raise ScanError(f"is broken ({type(error).__name__})", path=path, remedy="leave it out") from None


def delivered(results: Sequence[Pushed]) -> None:
    """See that something of what was pushed was taken.

    Raises:
        Undelivered: all of it was refused.
    """
    refused = [item for each in results for item in each.refused]
    if refused and not any(each.sent or each.there for each in results):
        path, why = refused[0]
        raise Undelivered(
            f"all {len(refused)} instances are refused: {why}", path=path, remedy="see what the node accepts"
        )
