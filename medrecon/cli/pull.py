"""The command `pull`: what a PACS has, and series of it into a local copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.batch import exit_code, left_out_data
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.deidentify import Identity
from medrecon.cli.faults import Fault, fault_of
from medrecon.cli.options import NamesFromSource, Overwrite
from medrecon.cli.pacs import Pacs, pull_each
from medrecon.cli.query import Which
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.io.scan import Found
    from medrecon.pacs.pulling import Pulled
    from medrecon.pacs.series import SeriesInfo


@verb(
    "medrecon pull research --patient 4711 --list",
    "medrecon pull research STUDIES/ --date 20260101-20260131 --modality CT \\\n"
    "      --description '*chest*'",
    "medrecon pull research/1.2.840.1/1.2.840.1.3 STUDIES/",
    "medrecon pull research STUDIES/ --study 1.2.840.1 --deidentify project.key",
)
def pull(
    session: Session,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODE[/STUDY[/SERIES]]",
            help="A PACS of the file of nodes, by its name; a study and a series in it, by their UIDs.",
        ),
    ],
    pacs: Pacs,
    which: Which,
    identity: Identity,
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTPUT",
            help="The folder of the copy: OUTPUT/study_1f2e3d4c/CT_5a6b7c8d. The same command again fetches "
            "only what is missing.",
        ),
    ] = None,
    list_only: Annotated[
        bool, option("--list", "Say which series match; fetch nothing. UIDs are shown.")
    ] = False,
    any_count: Annotated[
        bool,
        option(
            "--any-count",
            "Take the instances that the PACS lists, also where it counts another number of them.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    names_from_source: NamesFromSource = False,
) -> Outcome:
    """Fetch studies or series from a PACS.

    By DICOMweb where the node has it, else by C-FIND and C-GET or C-MOVE. Each series appears when it is
    whole, and is checked as `medrecon scans` checks it. With --deidentify no identity is ever written.
    """
    from medrecon.pacs.address import Address
    from medrecon.pacs.record import write_record
    from medrecon.pacs.series import find_series

    at = Address.parse(node)
    query = which.query(at)
    if output is None and not list_only:
        raise UsageError("no folder is named", remedy="name one, or pass --list")
    deidentifier = identity.deidentifier()
    if deidentifier is not None and list_only:
        raise UsageError(
            "--list fetches nothing, so nothing is de-identified", remedy="leave one of them out"
        )
    with pacs.connect(session, at.node) as archive:
        wanted = find_series(archive, query, which.limit)
        if list_only:
            return _listed(wanted, names_from_source)
        if not wanted:
            raise archive.error("nothing matches", "see what it has with --list and fewer options")
        place = Path(str(output))
        done, faults = pull_each(
            session,
            archive,
            wanted,
            place,
            any_count=any_count,
            overwrite=overwrite,
            deidentifier=deidentifier,
        )
        notes = [] if deidentifier is None else _notes(done)
        session.note(*notes)
        done = [each for each in done if each.instances]
        if not done and not faults:
            raise archive.error("no series that matches holds a CT, MR or PET image", "pull it as it is")
    record = write_record(place, at.node, done) if done and deidentifier is None else None
    return _pulled(session, record, done, faults, notes, names_from_source)


def _notes(done: list[Pulled]) -> list[str]:
    """What was left out of copies without identity, and what may be left in their pixels."""
    from medrecon.io.dicom.deidentify.files import remains

    without = sum(not each.instances for each in done)
    notes = [f"{without} series without CT, MR or PET images are left out"] if without else []
    return notes + list(dict.fromkeys(note for each in done for note in remains(each.path)))


def _listed(wanted: Sequence[SeriesInfo], named: bool) -> Outcome:
    """What is there; names of patients for a person at a terminal, or where the user asked."""

    def row(series: SeriesInfo, named: bool) -> dict[str, Any]:
        names = {
            "patient_id": series.patient_id,
            "patient_name": series.patient_name,
            "study_description": series.study_description,
            "description": series.description,
        }
        return {
            "modality": series.modality,
            "date": series.date,
            "instances": series.count,
            **(names if named else {}),
            "study_uid": series.study,
            "series_uid": series.uid,
        }

    def show(console: Console) -> None:
        rows = [row(series, named or console.file.isatty()) for series in wanted]
        columns = list(rows[0]) if rows else ["modality", "date", "instances", "study_uid", "series_uid"]
        headings = [name.replace("_", " ") for name in columns]
        print_table(
            console,
            headings,
            [[value if value != "" else None for value in each.values()] for each in rows],
            right=("instances",),
            whole=("study uid", "series uid"),
            spare=("patient name", "study description", "description", "patient id"),
        )
        studies = len({series.study for series in wanted})
        console.print(f"{len(wanted)} series of {studies} studies; nothing was fetched")

    return Outcome({"series": [row(series, named) for series in wanted]}, show)


def _pulled(
    session: Session,
    record: Path | None,
    done: list[Pulled],
    faults: list[Fault],
    notes: list[str],
    named: bool,
) -> Outcome:
    """What is here now, each series looked at as any scan is."""
    from medrecon.cli.scans import scan_data
    from medrecon.io.choices import named_from_source

    found = [_looked_at(each) for each in done]
    found = [named_from_source(each) for each in found] if named else found
    for each in found:
        for refusal in each.refused:
            faults.append(fault_of(refusal))
            session.complain(faults[-1], refusal)
    rows = [
        {
            "series": each.series.label,
            "path": str(each.path),
            "instances": each.instances,
            "fetched": each.fetched,
            "scans": [scan_data(scan) for scan in looked.scans],
            "left_out": left_out_data(looked.left_out, named),
        }
        for each, looked in zip(done, found, strict=True)
    ]
    data = {
        "series": rows,
        "failed": [fault.data() for fault in faults],
        "notes": notes,
        "sources": None if record is None else str(record),
    }

    def show(console: Console) -> None:
        _show_pulled(console, done, found)
        if record is not None and not session.quiet:
            console.print(f"which series is which, for you alone: {record}")

    readable = any(each.scans or each.left_out for each in found)
    return Outcome(data, show, exit_code(readable, faults))


def _show_pulled(console: Console, done: Sequence[Pulled], found: Sequence[Found]) -> None:
    """A table of the series, and what must be said of them."""
    cells, said = [], []
    for each, looked in zip(done, found, strict=True):
        shapes = "; ".join("x".join(map(str, scan.shape)) for scan in looked.scans)
        cells.append((each.path, each.instances, each.fetched, shapes or None))
        said += [(each.series.label, note) for scan in looked.scans for note in scan.notes]
    if cells:
        heads = ("written to", "instances", "fetched", "scans")
        print_table(console, heads, cells, right=("instances", "fetched"))
    if said:
        print_table(console, ("series", "note"), said)


def _looked_at(pulled: Pulled) -> Found:
    """The scans of a series; one that holds no image (a report, a segmentation) is none, and no fault."""
    from medrecon.io import find_scans
    from medrecon.io.collect import collect
    from medrecon.io.scan import Found, ScanError

    try:
        return find_scans(pulled.path)
    except ScanError as error:
        heap = collect([pulled.path])
        no_image = not heap.series and not heap.broken
        return Found((), tuple(heap.left_out), () if no_image else (error,))
