"""Sort the files of a source into DICOM series, volume files, what is left out and what is broken."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from medrecon.io.dicom.reading.header import Header
from medrecon.io.dicom.reading.kinds import acceptable, left_out_reason
from medrecon.io.dicom.reading.parsing import NotDicom, read_header
from medrecon.io.dicom.reading.series import identity
from medrecon.io.files.foreign import UNFETCHED, foreign, partner, unfetched
from medrecon.io.files.walk import walk
from medrecon.io.scan import LeftOut, ReadOptions, ScanError
from medrecon.io.strays import Broken

VOLUME_NAME = re.compile(r"\.(nii|nii\.gz|hdr|hdr\.gz|nrrd|nhdr|mha|mhd)$")
HEADERS = (".hdr", ".hdr.gz", ".nhdr", ".mhd")
"""Endings of headers whose values are in a file beside them."""
STRICT = ReadOptions()


@dataclass
class Heap:
    """What a walk collected."""

    series: dict[str, list[Header]] = field(default_factory=dict)
    volumes: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    unplaced: list[tuple[Header, LeftOut]] = field(default_factory=list)
    """Images of another class that is accepted, without a place in the patient."""

    def settle(self) -> None:
        """Leave unplaced images out, but for those of a series whose other images have a place."""
        for header, item in self.unplaced:
            others = self.series.get(identity(header), [])
            if any(other.text("SOPClassUID") == header.text("SOPClassUID") for other in others):
                others.append(header)
            else:
                self.left_out.append(item)


def collect(sources: list[Path], options: ReadOptions = STRICT) -> Heap:
    """Walk over the sources and sort what is there.

    Args:
        sources: files and folders.
        options: what the user allows.

    Raises:
        ScanError: a source is missing, or is no file and no folder.
    """
    heap = Heap()
    named = {s for s in sources if not s.is_dir()}
    for item in dict.fromkeys(p for s in sources for p in walk(s)):
        if isinstance(item, LeftOut):
            if unfetched(item.path):
                heap.left_out.append(LeftOut(item.path, UNFETCHED))
            elif item.reason.startswith(("a link to nowhere", "cannot be opened")):
                heap.broken.append(Broken(ScanError(item.reason, path=item.path, remedy="restore the file")))
            else:
                heap.left_out.append(item)
        elif item.name.upper() == "DICOMDIR":
            _directory(item, heap, item in named)
        elif VOLUME_NAME.search(item.name.lower()):
            _volume(item, heap, item in named)
        elif item in named and (header := partner(item, HEADERS)):
            _volume(header, heap, named=True)
        else:
            _dicom(item, heap, item in named, options)
    heap.settle()
    return heap


def _volume(path: Path, heap: Heap, named: bool) -> None:
    """Take a file with the name of a volume, unless it holds something else."""
    what = foreign(path)
    if what and named:
        heap.broken.append(Broken(ScanError(f"is {what}", path=path, remedy="give the scan itself")))
    elif what:
        heap.left_out.append(LeftOut(path, what))
    elif path not in heap.volumes[-2:]:  # a pair of which both are named
        heap.volumes.append(path)


def _directory(path: Path, heap: Heap, named: bool) -> None:
    """A DICOMDIR is never followed: its paths may lead anywhere."""
    if named:
        error = ScanError("is a DICOM directory, no image", path=path, remedy="give the folder that holds it")
        heap.broken.append(Broken(error))
    else:
        heap.left_out.append(LeftOut(path, "DICOM directory: the files are found by themselves"))


def _dicom(path: Path, heap: Heap, named: bool, options: ReadOptions) -> None:
    """Read a file's header and put it into its series."""
    try:
        if path.stat().st_size == 0:
            raise ScanError("is empty (0 bytes)", path=path, remedy="fetch the file again")
        header = read_header(path)
    except NotDicom as error:
        beside = _image_of_pair(path)
        reason = "no DICOM, NIfTI, NRRD or MHA file"
        if beside and not named:
            heap.left_out.append(LeftOut(path, beside))
        else:
            refusal = ScanError(beside or reason, path=path, remedy="give a scan")
            heap.broken.append(
                Broken(refusal, remains=error.remains, zeros=bool(error.remains) and _is_zeros(path))
            )
        return
    except (ScanError, OSError) as error:
        refusal = error if isinstance(error, ScanError) else unreadable(path, error)
        heap.broken.append(Broken(refusal))
        return
    uid = header.text("SeriesInstanceUID")
    if header.fault:
        reason = left_out_reason(header, options) if header.text("SOPClassUID") else ""
        if reason and not named:
            heap.left_out.append(LeftOut(path, f"{reason}; and broken: {header.fault}"))
        else:
            heap.broken.append(Broken(header.refusal(), uid, True))
        return
    reason = left_out_reason(header, options)
    if reason:
        item = LeftOut(path, reason, acceptable(header, reason))
        if "no-geometry" in item.accept and options.accepts("other-classes"):
            heap.unplaced.append((header, item))
        else:
            heap.left_out.append(item)
        return
    heap.series.setdefault(identity(header), []).append(header)


def unreadable(path: Path, error: OSError) -> ScanError:
    """The refusal of a file that the system does not open."""
    return ScanError(
        f"cannot be opened ({error.strerror})", path=path, remedy="check its rights and the disk"
    )


def _is_zeros(path: Path) -> bool:
    with path.open("rb") as stream:
        return not any(stream.read(128))


def _image_of_pair(path: Path) -> str:
    """Why a file without a header of its own is left out, if a header beside it names it."""
    header = partner(path, HEADERS)
    if header is None:
        return ""
    what = foreign(header)
    return f"its header {header.name} is {what}" if what else f"read with its header {header.name}"
