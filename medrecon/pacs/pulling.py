"""Series from a PACS into a local copy: whole, or kept in part until the same command goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medrecon.errors import OutputError
from medrecon.io.dicom.deidentify.header import Deidentifier
from medrecon.pacs.archive import Archive, ArchiveError
from medrecon.pacs.local import LocalSeries, WrongInstance
from medrecon.pacs.series import SeriesInfo, code

_ROUNDS = 3
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Pulled:
    """A series that is here.

    Attributes:
        series: as the PACS describes it; as the copy does where identity was taken out.
        path: the folder of its copy.
        instances: how many it has; 0 for a series without images, of which none is made without identity.
        fetched: how many of them were fetched by this run; 0 for a copy that was there.
    """

    series: SeriesInfo
    path: Path
    instances: int
    fetched: int


def place_of(series: SeriesInfo, output: Path) -> Path:
    """Where the copy of a series goes: `OUTPUT/study_1f2e3d4c/CT_5a6b7c8d`."""
    return output / f"study_{code(series.study)}" / series.label


def pull(
    archive: Archive,
    series: SeriesInfo,
    output: Path,
    *,
    any_count: bool = False,
    overwrite: bool = False,
    deidentifier: Deidentifier | None = None,
    progress: Tick | None = None,
) -> Pulled:
    """Fetch a series, and see that it is what the PACS lists before and after.

    What arrives is kept in a hidden folder beside its place until all is there; a run that ends early leaves
    it to the next.

    Args:
        archive: where it is.
        series: which; see `find_series`.
        output: the folder of the copy.
        any_count: take what is listed also where the number that the PACS announces is another.
        overwrite: bring a copy up to date that has other instances than the PACS.
        deidentifier: takes the identity out of each instance before it is written, and of the names of
            folders and files.
        progress: called with (instances here, instances in all).

    Raises:
        ArchiveError: it cannot be fetched whole, or changes while it is.
        OutputError: it cannot be written, or a copy of other instances is there.
    """
    shown = series if deidentifier is None else _unnamed(series, deidentifier)
    local = LocalSeries(place_of(shown, output), series.study, series.uid, deidentifier)
    listed = local.taken(_listed(archive, series, any_count))
    if not listed:
        return Pulled(shown, local.place, 0, 0)
    with local.held():
        if local.place.exists():
            if local.is_copy_of(listed):
                return Pulled(shown, local.place, len(listed), 0)
            if not overwrite:
                others = (
                    f"holds other instances than the {len(listed)} that pacs:{archive.node.name} lists now"
                )
                raise OutputError(
                    others if deidentifier is None else f"{others}, or was made with another --keep",
                    path=local.place,
                    remedy="bring it up to date with --overwrite",
                )
        fetched = 0
        for _ in range(_ROUNDS):
            fetched += _fetch(archive, local, listed, progress)
            again = local.taken(archive.instances(series.study, series.uid))
            lacking = local.missing(again)
            if not lacking and again.keys() == listed.keys():
                break
            vanished = len(listed.keys() - again.keys())
            if vanished:
                local.drop(again)
                raise archive.error(
                    f"{series.label} changed while it was pulled: {vanished} of {len(listed)} instances went",
                    "pull it again when nobody works on it",
                )
            listed = again
        else:
            raise _incomplete(archive, local, listed)
        if local.identities() > 1:
            local.discard()
            raise archive.error(
                f"{series.label} changed while it was pulled: its instances name several patients or studies",
                "pull it again",
            )
        local.finish()
    return Pulled(shown, local.place, len(listed), fetched)


def _unnamed(series: SeriesInfo, deidentifier: Deidentifier) -> SeriesInfo:
    """A series as its copy without identity describes it."""
    study, uid = deidentifier.uid(series.study), deidentifier.uid(series.uid)
    return SeriesInfo(study, uid, modality=series.modality, count=series.count)


def _listed(archive: Archive, series: SeriesInfo, any_count: bool) -> dict[str, str]:
    """The instances that a series has.

    Raises:
        ArchiveError: there are none, or the PACS contradicts itself.
    """
    listed = archive.instances(series.study, series.uid)
    if not listed:
        raise archive.error(f"{series.label} has no instances", "see what is there with --list")
    if series.count is not None and series.count != len(listed) and not any_count:
        raise archive.error(
            f"{series.label} has {series.count} instances by its count, and {len(listed)} are listed",
            "wait until it is complete, or take those with --any-count",
        )
    return listed


def _fetch(archive: Archive, local: LocalSeries, listed: Mapping[str, str], progress: Tick | None) -> int:
    """Fetch what is missing; returns how many arrived."""
    missing = local.missing(listed)
    done = len(listed) - len(missing)
    if progress is not None:
        progress(done, len(listed))
    count = 0

    def keep(data: bytes) -> None:
        nonlocal count
        try:
            local.keep(data, listed)
        except WrongInstance as error:
            raise archive.error(f"sent {error}", "report it to who runs it") from None
        count += 1
        if progress is not None:
            progress(min(done + count, len(listed)), len(listed))

    if missing:
        try:
            archive.fetch(local.study, local.series, missing, whole=len(missing) == len(listed), keep=keep)
        except ArchiveError as error:
            here = len(listed) - len(local.missing(listed))
            if not here:
                raise
            raise ArchiveError(
                f"{error.message}; {here} of {len(listed)} instances of {local.place.name} are kept",
                remedy="the same command goes on" if here < len(listed) else error.remedy,
            ) from None
    return count


def _incomplete(archive: Archive, local: LocalSeries, listed: Mapping[str, str]) -> ArchiveError:
    lacking = len(local.missing(listed))
    if lacking:
        return archive.error(
            f"lists {len(listed)} instances of {local.place.name} and does not send {lacking} of them",
            "the same command tries again; report it to who runs it",
        )
    return archive.error(
        f"{local.place.name} keeps changing: {len(listed)} instances by now", "pull it when it is complete"
    )
