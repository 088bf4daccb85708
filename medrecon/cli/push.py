"""The command `push`: derived series, feature reconstructions and parametric maps to a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.command import verb
from medrecon.cli.deidentify import Identity
from medrecon.cli.faults import PARTIAL
from medrecon.cli.pacs import Pacs, push_files, pushed_data
from medrecon.cli.session import Outcome, Session
from medrecon.cli.tables import print_table
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


@verb(
    "medrecon push CT_level3/ research",
    "medrecon push out/ research --via dimse",
    "medrecon push out/ research --deidentify project.key",
)
def push(
    session: Session,
    source: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="DICOM files: a folder, searched to the bottom, or one file."),
    ],
    node: Annotated[str, typer.Argument(metavar="NODE", help="A PACS of the file of nodes, by its name.")],
    pacs: Pacs,
    identity: Identity,
) -> Outcome:
    """Send DICOM series to a PACS.

    By STOW-RS where the node has it, else by C-STORE. What is there already, equal, is not sent again; the
    PACS is asked afterwards whether all is there.
    """
    from medrecon.pacs.address import Address

    address = Address.parse(node)
    if address.study:
        raise UsageError(f"'{node}' names a study", remedy="name the PACS alone: each file says its study")
    files = identity.without(session, source)
    with pacs.connect(session, address.node) as archive:
        done = push_files(session, archive, [files])
    refused = sum(len(each.refused) for each in done)

    def show(console: Console) -> None:
        rows = [(each.series.label, each.sent, each.there, len(each.refused)) for each in done]
        numbers = ("sent", "there already", "refused")
        print_table(console, ("series", *numbers), rows, right=numbers)

    return Outcome({"series": pushed_data(done)}, show, PARTIAL if refused else 0)
