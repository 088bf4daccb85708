"""What the verbs that speak to a PACS share: which ones there are, and series after series in and out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from medrecon.cli.declare import option
from medrecon.cli.faults import Fault, fault_of
from medrecon.cli.progress import phase_bar
from medrecon.cli.session import Session
from medrecon.errors import MedreconError

if TYPE_CHECKING:
    from medrecon.io.dicom.deidentify.header import Deidentifier
    from medrecon.pacs.archive import Archive
    from medrecon.pacs.pulling import Pulled
    from medrecon.pacs.pushing import Pushed
    from medrecon.pacs.series import SeriesInfo

_pacs = partial(option, panel="PACS")


class Via(str, Enum):
    """What is spoken with a node that speaks both."""

    dicomweb = "dicomweb"
    dimse = "dimse"


@dataclass(frozen=True)
class Pacs:
    """Which PACS are known, and how one is spoken to."""

    pacs: Annotated[
        Path | None,
        _pacs(
            "--pacs FILE",
            "The TOML file that says where each PACS is. Default: ~/.config/medrecon/pacs.toml.",
        ),
    ] = None
    via: Annotated[
        Via | None,
        _pacs(
            "--via dicomweb|dimse", "How to speak to a PACS of which the file gives both. Default: DICOMweb."
        ),
    ] = None

    def connect(self, session: Session, name: str) -> Archive:
        """A connection to one of the nodes.

        Raises:
            UsageError: the node is unknown.
            ModelError: the file of nodes is broken.
            ArchiveError: it cannot be reached.
        """
        from medrecon.pacs.connect import connect
        from medrecon.pacs.nodes import find_node

        if not session.verbose:  # their own lines repeat ours, and may hold what was asked for
            for library in ("pynetdicom", "urllib3", "dicomweb_client"):
                logging.getLogger(library).setLevel(logging.CRITICAL)
        return connect(find_node(name, self.pacs), self.via.value if self.via else "")


def pull_each(
    session: Session,
    archive: Archive,
    wanted: Sequence[SeriesInfo],
    output: Path,
    *,
    any_count: bool = False,
    overwrite: bool = False,
    deidentifier: Deidentifier | None = None,
) -> tuple[list[Pulled], list[Fault]]:
    """Pull series after series; one that fails does not stop the others.

    Raises:
        MedreconError: the only one failed.
    """
    from medrecon.pacs.pulling import pull

    done: list[Pulled] = []
    faults: list[Fault] = []
    with phase_bar(session, "asking", "instances") as begin:
        for number, series in enumerate(wanted, start=1):
            try:
                tick = begin(f"{number}/{len(wanted)} {series.label}")
                done.append(
                    pull(
                        archive,
                        series,
                        output,
                        any_count=any_count,
                        overwrite=overwrite,
                        deidentifier=deidentifier,
                        progress=tick,
                    )
                )
            except MedreconError as error:
                if len(wanted) == 1:
                    raise
                faults.append(fault_of(error))
                session.complain(faults[-1], error)
    return done, faults


def push_files(session: Session, archive: Archive, sources: Iterable[Path]) -> list[Pushed]:
    """Push all series of files and folders.

    Raises:
        ScanError: there is no DICOM file, or one is broken.
        Undelivered: nothing was taken, or the transfer broke off.
    """
    from medrecon.pacs.pushing import delivered, outgoing, push

    found, left_out = outgoing(list(sources))
    if left_out:
        session.say(f"note: {len(left_out)} files that are no DICOM are not sent")
    done: list[Pushed] = []
    with phase_bar(session, "comparing", "instances") as begin:
        for number, series in enumerate(found, start=1):
            done.append(push(archive, series, begin(f"{number}/{len(found)} {series.label}")))
    delivered(done)
    for each in done:
        for path, why in each.refused:
            session.say(f"refused: {path}: {why}")
        if not each.seen:
            session.say(
                f"note: {each.series.label}: the node answers no query: whether all is there is unknown"
            )
    return done


def pushed_data(done: Iterable[Pushed]) -> list[dict[str, Any]]:
    """What was pushed, for `--json`."""
    return [
        {
            "series": each.series.label,
            "sent": each.sent,
            "there": each.there,
            "refused": [{"path": str(path), "reason": why} for path, why in each.refused],
        }
        for each in done
    ]
