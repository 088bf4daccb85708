"""Write NIfTI: geometry in both forms, the source's data type where the values fit."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import ImageWriter
from monai.utils import convert_data_type

from medrecon.errors import OutputError
from medrecon.io.derivation import Derivation, identity_derivation
from medrecon.io.files.outputs import LOG, Written, hash_file
from medrecon.io.files.publish import publish
from medrecon.io.nifti.form import NiftiForm, choose_form, source_header
from medrecon.io.reader import scan_of
from medrecon.io.scan import Scan

try:
    from isal import igzip, isal_zlib

    _ISAL_BROKEN: Any = isal_zlib.error
except ImportError:
    igzip = None  # type: ignore[assignment]
    _ISAL_BROKEN = zlib.error

_CHUNK = 1 << 22
_LONGEST_AXIS = 32767
KEPT = ("cal_min", "cal_max", "dim_info", "slice_start", "slice_end", "slice_code", "slice_duration")
"""Fields of a NIfTI source's header that its results keep."""


class NiftiWriter(ImageWriter):
    """Write a volume as a NIfTI-1 file (NIfTI-2 where an axis is longer than 32767) in its source's geometry.

    sform and qform are the same and have code 1, units are mm. MONAI's writer interface: `set_data_array`,
    `set_metadata`, `write`.

    Args:
        derivation: how the volume was made; None for a copy of the source's voxels.
        overwrite: replace a file that is there.
        result: name of the result, for the record.
    """

    def __init__(
        self,
        derivation: Derivation | None = None,
        overwrite: bool = False,
        result: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.derivation = derivation or identity_derivation()
        self.overwrite, self.result = overwrite, result or self.derivation.layers
        self.scan: Scan | None = None
        self.header: nib.Nifti1Header | None = None

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take the volume: (1, X, Y, Z) or, with `channel_dim=None`, (X, Y, Z); in the source's units."""
        array = convert_data_type(data_array, np.ndarray)[0]
        if channel_dim is not None:
            array = np.take(array, 0, axis=channel_dim)
        self.data_obj = array

    def set_metadata(self, meta_dict: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Take the metadata that `ScanReader` gave, from which the source is found again."""
        self.scan = scan_of(meta_dict or {})

    def set_scan(self, scan: Scan, header: nib.Nifti1Header | None = None) -> None:
        """Name the source at once, in place of `set_metadata`.

        Args:
            scan: the source.
            header: says how the source stores its values, where its files are not at hand.
        """
        self.scan, self.header = scan, header

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> Written:
        """Write the file `filename` (`.nii` or `.nii.gz`), whole or not at all.

        Raises:
            OutputError: it exists, does not fit the disk, or does not read back as it was meant.
        """
        if self.scan is None or self.data_obj is None:
            raise OutputError(
                "nothing to write", path=Path(filename), remedy="set the array and the metadata first"
            )
        scan, path = self.scan, Path(filename)
        volume = np.asarray(self.data_obj)
        if volume.shape != scan.shape:
            raise OutputError(
                f"a volume of {volume.shape} does not fit the source of {scan.shape}",
                path=path,
                remedy="invert the transforms first",
            )
        source = self.header if self.header is not None else source_header(scan)
        form = choose_form(volume, scan, source)
        stored = form.store(volume)
        header = _header(stored, scan.affine, source, form, self.derivation)
        with publish(path, self.overwrite) as part:
            packed = path.name.lower().endswith(".gz")
            _save(header, stored, part, packed)
            _check(header, stored, part, packed, scan.affine, path)
            digest = hash_file(part)
        said = [form.warning] if form.warning else []
        for line in said:
            LOG.warning("%s: %s", path, line)
        return Written(path, scan.key, self.result, "nifti", form.words, 0, tuple(said), {path.name: digest})


def _header(
    stored: np.ndarray,
    affine: np.ndarray,
    source: nib.Nifti1Header | None,
    form: NiftiForm,
    derivation: Derivation,
) -> nib.Nifti1Header:
    header = nib.Nifti2Header() if max(stored.shape) > _LONGEST_AXIS else nib.Nifti1Header()
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape[::-1])
    header.set_slope_inter(form.slope, form.intercept)
    if source is not None:
        for name in KEPT:
            header[name] = source[name]
    header["descrip"] = f"medrecon {derivation.version} {derivation.layers}".encode("ascii", "replace")[:79]
    header.set_xyzt_units("mm")
    header.set_qform(affine, code=1)  # sets the voxel sizes too
    header.set_sform(affine, code=1)
    header["vox_offset"], header["magic"] = header.single_vox_offset, header.single_magic
    return header


def _save(header: nib.Nifti1Header, stored: np.ndarray, part: Path, packed: bool) -> None:
    """Stream the file; gzip without a name or a time in it, so that the same image gives the same bytes."""
    head, data = _head(header), stored.data.cast("B")
    with part.open("wb") as raw:
        if not packed:
            raw.write(head)
            raw.write(data)
            return
        kind = igzip.IGzipFile if igzip is not None else gzip.GzipFile
        with kind(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as stream:
            stream.write(head)
            for start in range(0, len(data), _CHUNK):
                stream.write(data[start : start + _CHUNK])


def _head(header: nib.Nifti1Header) -> bytes:
    """All bytes before the voxels: the header and an empty list of extensions."""
    stream = BytesIO()
    header.write_to(stream)
    return stream.getvalue().ljust(header.single_vox_offset, b"\0")


def _check(
    header: nib.Nifti1Header, stored: np.ndarray, part: Path, packed: bool, affine: np.ndarray, final: Path
) -> None:
    """Read the file back, piece by piece, and compare voxels and geometry.

    Raises:
        OutputError: they differ.
    """
    kind = (igzip.IGzipFile if igzip is not None else gzip.GzipFile) if packed else None
    data = stored.data.cast("B")
    try:
        with part.open("rb") as raw, kind(fileobj=raw, mode="rb") if kind else nullcontext(raw) as stream:
            head = stream.read(header.single_vox_offset)
            same = head == _head(header)
            for start in range(0, len(data), _CHUNK):
                same = same and stream.read(min(_CHUNK, len(data) - start)) == data[start : start + _CHUNK]
            same = same and not stream.read(1)
    except (OSError, EOFError, zlib.error, _ISAL_BROKEN) as error:
        raise OutputError(
            f"does not read back as it was written ({error})", path=final, remedy="check the disk"
        ) from error
    back = type(header).from_fileobj(BytesIO(head)) if same else header
    scale = max(1.0, float(np.abs(affine).max()))
    if not same or any(np.abs(m - affine).max() > 1e-5 * scale for m in (back.get_sform(), back.get_qform())):
        raise OutputError("does not read back as it was written", path=final, remedy="check the disk")
