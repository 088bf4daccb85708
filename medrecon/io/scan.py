"""A scan as its headers describe it: what is found, read, written back and reported."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from medrecon.errors import ScanError as ScanError
from medrecon.errors import UsageError
from medrecon.io.value_form import ValueForm

Format = Literal["dicom", "nifti", "nrrd", "mha"]


ACCEPTABLE = {
    "mixed": "read slices that differ in echo, kernel, contrast or the like as one volume",
    "same-position": "read the first of several slices at one position",
    "same-uid": "read files that share a SOP Instance UID as different slices",
    "studies": "read slices with several Study Instance UIDs as one series",
    "frames": "read slices with several frames of reference as one volume",
    "lost-slices": "read the series without such files",
    "no-rescale": "read values without a usable rescale as they are stored",
    "bits": "take the lowest Bits Stored bits, unsigned where nothing is said",
    "frame-order": "take the frames of an image without positions as slices in their order",
    "no-geometry": "place slices by their Instance Numbers, axial, where their geometry is missing",
    "no-thickness": "read a single slice without a thickness as 1 mm thick",
    "localizers": "read localizer images, too",
    "other-classes": "read images with a place in the patient that are no CT, MR or PET images, too",
}
"""What is refused unless the user accepts it by its name, and what that does."""


def or_accept(*names: str) -> str:
    """The end of a remedy: the options that read it all the same."""
    what = ", and ".join(ACCEPTABLE[name] for name in names)
    return f", or {what} with {' '.join(f'--accept {name}' for name in names)}"


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of what is accepted, in one order.

    Raises:
        UsageError: one is unknown.
    """
    given = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in given if name not in ACCEPTABLE]
    if unknown:
        raise UsageError(
            f"'{unknown[0]}' is nothing that can be accepted", remedy=f"there are {', '.join(ACCEPTABLE)}"
        )
    return tuple(name for name in ACCEPTABLE if name in given)


@dataclass(frozen=True)
class ReadOptions:
    """What a user allows beyond the strict reading.

    Attributes:
        resample: resample a sheared stack (gantry tilt), or slices at uneven distances, onto a straight and
            even grid, linearly.
        nifti_form: which of two contradicting NIfTI forms to believe, "sform" or "qform"; "" refuses.
        replace_nonfinite: value put in the place of NaN and Inf; None refuses.
        max_bytes: refuse scans whose decoded voxels take more than this.
        accept: names of `ACCEPTABLE` that are read all the same, and said.
        hu: take the values as HU, where the file cannot say so.
    """

    resample: bool = False
    nifti_form: str = ""
    replace_nonfinite: float | None = None
    max_bytes: int = 8 << 30
    accept: tuple[str, ...] = ()
    hu: bool = False

    def accepts(self, name: str) -> bool:
        """Whether the user accepts what is refused under this name (`ACCEPTABLE`)."""
        return name in self.accept

    def check_size(self, shape: Sequence[int], itemsize: int, path: Path) -> None:
        """Refuse voxels that take more memory than the limit.

        Raises:
            ScanError: they do.
        """
        need = math.prod(map(int, shape)) * itemsize
        if need > self.max_bytes:
            raise ScanError(
                f"{' x '.join(map(str, shape))} voxels are {need >> 20} MiB, the limit is "
                f"{self.max_bytes >> 20} MiB",
                path=path,
                remedy="raise the limit (max_bytes) if the scan is real",
            )

    def to_text(self) -> str:
        """The options that differ from the defaults, as JSON: they travel in a MetaTensor's meta."""
        default = asdict(ReadOptions())
        return json.dumps({k: v for k, v in asdict(self).items() if v != default[k]}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> ReadOptions:
        """The inverse of `to_text`."""
        values = json.loads(text or "{}")
        return cls(**values | {"accept": tuple(values.get("accept", ()))})


@dataclass(frozen=True)
class Scan:
    """One volume on a regular grid, known from headers alone.

    Attributes:
        path: what a user would name: the folder that holds the series, or the file.
        format: how it is stored.
        files: for DICOM one file per slice in the order of the array's last axis (an enhanced multi-frame
            object is one file); else the one file.
        shape: columns, rows, slices: the array's axes X, Y, Z.
        affine: (4, 4) float64, voxel index (X, Y, Z) -> RAS mm.
        modality: DICOM's Modality ("CT", "MR", "PT"), or "" where the format does not say.
        body_part: DICOM's BodyPartExamined where it is a defined term, else "".
        units: "HU" for CT, else DICOM's Units or "" (arbitrary).
        key: eight hexadecimal digits that tell scans apart; no patient's identity can be read from it.
        description: SeriesDescription, or the file's stem; may hold anything: never a file name as it is.
        series_uid: SeriesInstanceUID, "" outside DICOM.
        volume: which volume of a 4D or multi-echo source this is; None where there is only one.
        named_from_source: the user wants outputs to be named after the description; see `scan_label`.
        notes: what was noticed and must be said, one line each.
        options: what the user allowed when the scan was found.
        recipe: how the voxels are read; for `read_scan` alone.
        stored: how the file stores its values, for results of it; None for DICOM.
        kept: fields of a NIfTI header that results keep.
        beside: scans of the same grid that a network takes as further channels; see `ScanReader`.
    """

    path: Path
    format: Format
    files: tuple[Path, ...] = field(repr=False)
    shape: tuple[int, int, int]
    affine: np.ndarray = field(repr=False, compare=False)
    modality: str = ""
    body_part: str = ""
    units: str = ""
    key: str = ""
    description: str = ""
    series_uid: str = ""
    volume: int | None = None
    named_from_source: bool = False
    notes: tuple[str, ...] = ()
    options: ReadOptions = field(default=ReadOptions(), repr=False)
    recipe: Any = field(default=None, repr=False, compare=False)
    stored: ValueForm | None = field(default=None, repr=False)
    kept: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    beside: tuple[Scan, ...] = field(default=(), repr=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along X, Y, Z, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def _repr_html_(self) -> str:
        # named, not imported: what shows a scan reads it, and reading needs this file
        html_of: Callable[[Scan], str] = resolve_name("medrecon.io.preview:html_of")
        return html_of(self)

    def __fspath__(self) -> str:
        """The scan's address `path#scan=KEY[&volume=N][&options=JSON]`: whence `ScanReader` finds it.

        MONAI's `LoadImage` turns every input into a path, unless it is told `expanduser=False`.
        """
        volume = "" if self.volume is None else f"&volume={self.volume}"
        options = "" if self.options == ReadOptions() else f"&options={quote(self.options.to_text())}"
        return f"{self.path}#scan={self.key}{volume}{options}"

    def __str__(self) -> str:
        return os.fspath(self)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not part of any scan, why, and the names of what must be accepted to read it."""

    path: Path
    reason: str
    accept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """All that a folder, a file or a list held: used + left out + refused = found."""

    scans: tuple[Scan, ...]
    left_out: tuple[LeftOut, ...] = ()
    refused: tuple[ScanError, ...] = ()


def scan_key(identity: str, volume: int | None) -> str:
    """Eight hexadecimal digits for a series or file and a volume of it."""
    return hashlib.sha256(f"{identity}|{volume}".encode(errors="surrogateescape")).hexdigest()[:8]
