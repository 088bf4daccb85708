"""The command `deidentify`, and the options by which other verbs do it on their way."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.batch import left_out_data
from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.options import Overwrite
from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.io.dicom.deidentify.files import Deidentified
    from medrecon.io.dicom.deidentify.header import Deidentifier

_identity = partial(option, panel="Identity")

Keep = Annotated[
    list[str] | None,
    _identity(
        "--keep dates|device|patient",
        "What stays of the header all the same: dates (each moved back by the same days for a patient), "
        "which device, sex and age and size and weight of the patient. Repeat it for several.",
    ),
]


@dataclass(frozen=True)
class Identity:
    """Whether what is DICOM leaves without its patient's identity."""

    key: Annotated[
        Path | None,
        _identity(
            "--deidentify KEYFILE",
            "Take out who the patient is (PS3.15 basic profile). UIDs, IDs and dates become others, "
            "the same ones each time with the same key: a file of 16 bytes or more, for you alone.",
        ),
    ] = None
    keep: Keep = None

    def without(self, session: Session, source: Path) -> Path:
        """The source, or a copy of it without identity, which is there until the verb ends.

        Raises:
            UsageError: the options make no sense.
            ModelError: the key cannot be used.
            ScanError: the source cannot be de-identified.
        """
        deidentifier = self.deidentifier()
        if deidentifier is None:
            return source
        folder = Path(session.until_the_end(tempfile.TemporaryDirectory(prefix="medrecon-")))
        _deidentified(session, source, folder / "out", deidentifier)
        return folder / "out"

    def deidentifier(self) -> Deidentifier | None:
        """What takes the identity out; None where it stays.

        Raises:
            UsageError: the options make no sense.
            ModelError: the key cannot be used.
        """
        if self.key is not None:
            return _deidentifier(self.key, self.keep)
        if self.keep:
            raise UsageError("--keep is for --deidentify", remedy="name the key, or leave --keep out")
        return None


@verb(
    "medrecon deidentify STUDY/ OUT/ project.key",
    "medrecon deidentify STUDY/ OUT/ project.key --keep dates --keep patient",
)
def deidentify(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="DICOM: a folder, searched to the bottom.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder of the copy.")],
    key: Annotated[
        Path,
        typer.Argument(
            metavar="KEYFILE",
            help="A secret of 16 bytes or more, for you alone. Keep it: it joins later runs to this "
            "one, and who has it can tell whether somebody is in the data.",
        ),
    ],
    keep: Keep = None,
    overwrite: Overwrite = False,
) -> Outcome:
    """Copy DICOM images without their patients' identity.

    The same key gives the same UIDs, IDs and shift of dates: copies of sources and of what was derived from
    them still refer to each other. Pixels are not changed: burned-in text and faces stay, and that is said.
    """
    made = _deidentified(session, source, output, _deidentifier(key, keep), overwrite)

    def show(console: Console) -> None:
        console.print(f"{made.files} files without identity: {output}")
        if made.left_out:
            console.print(f"left out: {len(made.left_out)} files that are no image")

    data = {
        "output": str(output),
        "files": made.files,
        "notes": list(made.notes),
        "left_out": left_out_data(made.left_out, named=False),
    }
    return Outcome(data, show)


def _deidentifier(key: Path, keep: list[str] | None) -> Deidentifier:
    from medrecon.io.dicom.deidentify.header import Deidentifier
    from medrecon.io.dicom.deidentify.key import Key
    from medrecon.io.dicom.deidentify.profile import Profile

    return Deidentifier(Key.read(key), Profile.of(keep or ()))


def _deidentified(
    session: Session, source: Path, output: Path, deidentifier: Deidentifier, overwrite: bool = False
) -> Deidentified:
    from medrecon.io.dicom.deidentify.files import deidentify as run

    with progress_bar(session, "taking out identity", "files") as tick:
        made = run(session.folder_of(source), output, deidentifier, overwrite=overwrite, progress=tick)
    session.note(*made.notes)
    return made
