"""The formats that are written as one file: their endings, and their writers.

Writers need MONAI, which takes seconds to import: they are named here, and imported when one is needed.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrecon.io.result_writer import ResultWriter

ENDINGS = {"nifti": (".nii.gz", ".nii"), "nrrd": (".nrrd",), "mha": (".mha",)}
"""The endings of each format; a new file's name is made with the first."""

_WRITERS = {
    "nifti": "medrecon.io.nifti.writing:NiftiWriter",
    "nrrd": "medrecon.io.itk.writing:ItkWriter",
    "mha": "medrecon.io.itk.writing:ItkWriter",
}


def format_named(path: str | Path) -> str:
    """The format that a file's name asks for; "" for none, as which a folder has its name."""
    name = Path(path).name.lower()
    return next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), "")


def split_ending(name: str) -> tuple[str, str]:
    """A file's name before its ending, and the ending: ("t1", ".nii.gz"); "" for none, as of a folder."""
    endings = ENDINGS.get(format_named(name), ())
    cut = len(name) - next((len(each) for each in endings if name.lower().endswith(each)), 0)
    return name[:cut], name[cut:]


def writer_of(kind: str) -> type[ResultWriter]:
    """The writer of a format of `ENDINGS`."""
    found: type[ResultWriter] = resolve_name(_WRITERS[kind])
    return found
