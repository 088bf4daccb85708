"""Which studies a folder or a list names; nothing of them is opened here, the workers do that."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medrecon.errors import OutputError, UsageError
from medrecon.io.collect import VOLUME_NAME
from medrecon.io.files.archive import is_zip
from medrecon.io.files.foreign import foreign
from medrecon.io.scan import ScanError

PATH_COLUMN = "path"
_DIGITS = 12
_LONGEST_LIST = 100 << 20


@dataclass(frozen=True)
class Study:
    """One unit of work: a folder (searched to the bottom), a zip file of one, or a scan file.

    Attributes:
        id: the name of its folder in the output. A source's own name may be a patient's and is left out.
        path: where it is.
        source: how the user's input names it, for the table.
    """

    id: str
    path: Path
    source: str


@dataclass(frozen=True)
class Plan:
    """The studies, in the order of the input, and what must be said of it."""

    studies: tuple[Study, ...]
    notes: tuple[str, ...] = ()


def plan_studies(source: str | Path, output: str | Path) -> Plan:
    """The studies of a folder (each entry of it) or of a list (each line of it).

    Args:
        source: a folder whose sub-folders, zip files and scan files are a study each; or a text file with one
            path a line (`#` starts a comment); or a .csv or .tsv file with a column `path`; or one scan file.
            Relative paths of a list start from its folder.
        output: where the results go; must not lie in a study, nor hold one.

    Raises:
        ScanError: there is no study, or the source cannot be read.
        UsageError: the list has no such column.
        OutputError: the output lies in the input.
    """
    source, output = Path(source), Path(output)
    if source.is_dir():
        studies, notes = _of_folder(source)
    elif VOLUME_NAME.search(source.name.lower()) or is_zip(source):
        studies, notes = [_study(source, source.name)], []
    else:
        studies, notes = _of_list(source)
    if not studies:
        raise ScanError("names no study", path=source, remedy="give a folder of studies, or a list of paths")
    unique = list({study.id: study for study in studies}.values())
    if len(unique) < len(studies):
        notes.append(f"{len(studies) - len(unique)} named more than once: taken once")
    _refuse_overlap(source, unique, output)
    return Plan(tuple(unique), tuple(notes))


def _of_folder(folder: Path) -> tuple[list[Study], list[str]]:
    """Each sub-folder and each scan file; DICOM files beside them would belong to no study."""
    studies, others = [], []
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ScanError(
            f"cannot be opened ({error.strerror})", path=folder, remedy="check its rights"
        ) from error
    for entry in listed:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        volume = VOLUME_NAME.search(entry.name.lower()) and not foreign(path)
        if entry.is_dir() or volume or is_zip(path):
            studies.append(_study(path, entry.name))
        elif entry.is_file() and _is_dicom(path):
            raise ScanError(
                f"holds DICOM files of its own, such as {entry.name}, so that its entries are no studies",
                path=folder,
                remedy="put each study into a folder of its own, or use medrecon reconstruct for one series",
            )
        else:
            others.append(entry.name)
    said = f"{len(others)} file(s) of the folder are no study" if others else ""
    return studies, [said] if said else []


def _of_list(path: Path) -> tuple[list[Study], list[str]]:
    try:
        if path.stat().st_size > _LONGEST_LIST:
            raise ScanError("is too large for a list", path=path, remedy="name a text file of paths")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ScanError(f"cannot be opened ({error.strerror})", path=path, remedy="check the path") from error
    except UnicodeDecodeError as error:
        raise ScanError(
            "is neither a folder, a scan nor a list", path=path, remedy="one path a line"
        ) from error
    names = list(_column(path, text) if path.suffix.lower() in (".csv", ".tsv") else _lines(text))
    if any("\0" in name for name in names):
        raise ScanError("is no list: it holds null characters", path=path, remedy="one path a line")
    return [_study(_absolute(path.parent / name), name) for name in names], []


def _column(path: Path, text: str) -> Iterable[str]:
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        if PATH_COLUMN not in (reader.fieldnames or ()):
            raise UsageError(
                f"has no column '{PATH_COLUMN}'", path=path, remedy="name the column of the paths so"
            )
        return [row[PATH_COLUMN].strip() for row in reader if (row[PATH_COLUMN] or "").strip()]
    except csv.Error as error:
        raise ScanError(
            f"is no table: line {reader.line_num}: {error}", path=path, remedy="one path a line"
        ) from None


def _lines(text: str) -> Iterable[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _study(path: Path, source: str) -> Study:
    """The id is the hash of where the study is, so that a later run knows it again."""
    path = _absolute(path)
    digits = hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGITS]
    return Study(f"study_{digits}", path, source)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - links stay, `..` goes: one name for each


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _refuse_overlap(source: Path, studies: Iterable[Study], output: Path) -> None:
    inside = output.resolve()
    places = [source.resolve()] if source.is_dir() else []
    for place in [*places, *(study.path.resolve() for study in studies)]:
        if inside == place or place in inside.parents:
            raise OutputError(
                f"the output is, or lies in, the input {place}",
                path=output,
                remedy="choose an output outside of the input",
            )
