"""DICOM files without identity: all of a folder, or nothing; and instance by instance as they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.encaps import generate_fragments
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import get_expected_length

from medrecon.io.collect import collect
from medrecon.io.dicom.deidentify.header import Deidentifier
from medrecon.io.dicom.reading.kinds import IMAGES
from medrecon.io.files.publish import publish
from medrecon.io.files.walk import walk
from medrecon.io.scan import LeftOut, ScanError

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_NEEDED = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_HEADS = ("HEAD", "BRAIN", "SKULL", "FACE", "HEADNECK", "NECK")


@dataclass(frozen=True)
class Deidentified:
    """What was made.

    Attributes:
        path: the folder.
        files: how many.
        left_out: files that are no image, and do not appear.
        notes: what could not be removed, one line each.
    """

    path: Path
    files: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def deidentify(
    source: Path,
    output: Path,
    deidentifier: Deidentifier,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Deidentified:
    """Write what a folder holds, without identity; files are called by their new UIDs.

    Reports, documents and other objects that are no CT, MR or PET image or Parametric Map are left out.

    Args:
        source: a folder, searched to the bottom, or a file.
        output: a folder `study_.../series_...`, which appears when all of it is there.
        deidentifier: how.
        overwrite: replace what is there.
        progress: called with (files done, files in all).

    Raises:
        ScanError: there is no image, or a file is broken.
        OutputError: it cannot be written.
    """
    broken = next((item.error for item in collect([source]).broken if item.dicom), None)
    if broken is not None:
        raise broken
    listed = list(walk(source))
    left_out = [item for item in listed if isinstance(item, LeftOut)]
    paths = [item for item in listed if isinstance(item, Path)]
    notes: dict[str, None] = {}
    count = 0
    with publish(output, overwrite) as part:
        for number, path in enumerate(paths, start=1):
            dataset = _read(path)
            reason = "no DICOM file" if dataset is None else _not_an_image(dataset)
            if dataset is None or reason:
                left_out.append(LeftOut(path, reason))
                continue
            made = deidentifier.map(dataset)
            place = part / _code("study", made.StudyInstanceUID) / _code("series", made.SeriesInstanceUID)
            place.mkdir(parents=True, exist_ok=True)
            made.save_as(place / f"{_code('', made.SOPInstanceUID)}.dcm", enforce_file_format=True)
            notes |= dict.fromkeys(_remains(dataset))
            count += 1
            if progress is not None:
                progress(number, len(paths))
        if not count:
            raise ScanError("no CT, MR or PET image", path=source, remedy="give a DICOM series or study")
    return Deidentified(output, count, tuple(left_out), tuple(notes))


def deidentified(data: bytes, deidentifier: Deidentifier) -> bytes:
    """A file that is not on the disk yet, without identity.

    Raises:
        ScanError: it is no image, or broken.
    """
    dataset = _read(BytesIO(data))
    reason = "no DICOM file" if dataset is None else _not_an_image(dataset)
    if dataset is None or reason:
        raise ScanError(f"is {reason}")
    stream = BytesIO()
    deidentifier.map(dataset).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def remains(folder: Path) -> list[str]:
    """What the pixels of files without identity may still show, one line each."""
    notes: dict[str, None] = {}
    for path in sorted(folder.glob("*.dcm")):
        notes |= dict.fromkeys(_remains(pydicom.dcmread(path, stop_before_pixels=True)))
    return list(notes)


def is_image(kind: str) -> bool:
    """Whether objects of a SOP class are copied."""
    return kind in IMAGES or kind == PARAMETRIC_MAP


def _read(source: Path | BytesIO) -> Dataset | None:
    """A file, all values of it read; None for one that is no DICOM.

    Raises:
        ScanError: it is broken: what cannot be read cannot be known to be harmless.
    """
    try:
        dataset = pydicom.dcmread(source)
        dataset.walk(lambda within, element: None)
        kind = dataset.get("SOPClassUID") or dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID = kind, dataset.file_meta.TransferSyntaxUID
        if not _not_an_image(dataset) and not all(dataset[keyword].value for keyword in _NEEDED):
            raise ValueError("a UID is missing")
        _check_pixels(dataset)
    except InvalidDicomError:
        return None
    except Exception as error:  # whatever a broken file can raise
        raise ScanError(
            f"cannot be read whole ({type(error).__name__}), so not be de-identified",
            path=source if isinstance(source, Path) else None,
            remedy="export it again, or take it out",
        ) from error
    return dataset


def _check_pixels(dataset: Dataset) -> None:
    """A file that was cut has fewer pixels than its header says.

    Raises:
        Exception: it was cut.
    """
    if "PixelData" not in dataset:
        return
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        list(generate_fragments(dataset.PixelData))
    elif len(dataset.PixelData) < get_expected_length(dataset):
        raise ValueError("pixels are missing")


def _not_an_image(dataset: Dataset) -> str:
    kind = dataset.SOPClassUID
    return "" if is_image(kind) else f"not a CT, MR or PET image: {kind.name}"


def _remains(dataset: Dataset) -> list[str]:
    """What the pixels may show."""
    notes = []
    if dataset.get("BurnedInAnnotation") == "YES":
        notes.append("its pixels hold burned-in text, which stays: look at it before you hand it on")
    part = str(dataset.get("BodyPartExamined") or "").upper()
    if dataset.get("RecognizableVisualFeatures") == "YES" or part in _HEADS or not part:
        notes.append("it may show a face, which stays: remove it with a defacing tool before you hand it on")
    return notes


def _code(what: str, uid: str) -> str:
    digits = hashlib.sha256(str(uid).encode()).hexdigest()[: 8 if what else 16]
    return f"{what}_{digits}" if what else digits
