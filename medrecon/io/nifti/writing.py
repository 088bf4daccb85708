"""Write NIfTI: geometry in both forms, the source's data type where the values fit."""

from __future__ import annotations

import gzip
import zlib
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medrecon.errors import OutputError
from medrecon.io.derivation import Derivation
from medrecon.io.result_form import choose_form
from medrecon.io.scan import Scan
from medrecon.io.value_form import ValueForm
from medrecon.io.volume_writer import VolumeWriter

try:
    from isal import igzip, isal_zlib

    _ISAL_BROKEN: Any = isal_zlib.error
except ImportError:
    igzip = None  # type: ignore[assignment]
    _ISAL_BROKEN = zlib.error

_CHUNK = 1 << 22
_LONGEST_AXIS = 32767


class NiftiWriter(VolumeWriter):
    """Write a volume as a NIfTI-1 file in its source's geometry.

    NIfTI-2 where an axis is longer than 32767, or where float32 does not hold the source's scaling.

    sform and qform are the same and have code 1, units are mm. Arguments as `VolumeWriter`.
    """

    def form_of(self, volume: np.ndarray, scan: Scan) -> ValueForm:
        """How the values are stored."""
        return choose_form(volume, scan)

    def save(self, stored: np.ndarray, scan: Scan, form: ValueForm, part: Path, final: Path) -> None:
        """Write the stored numbers (Z, Y, X) to the file `part` and read them back.

        Raises:
            OutputError: the file `final`, which it will be, does not read back as it was written.
        """
        header = _header(stored, scan, form, self.derivation)
        packed = final.name.lower().endswith(".gz")
        _save(header, stored, part, packed)
        _check(header, stored, part, packed, scan.affine, final)


def _header(stored: np.ndarray, scan: Scan, form: ValueForm, derivation: Derivation) -> nib.Nifti1Header:
    scaling = np.array([form.slope, form.intercept])
    long = max(stored.shape) > _LONGEST_AXIS or not np.array_equal(scaling.astype(np.float32), scaling)
    header = nib.Nifti2Header() if long else nib.Nifti1Header()
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape[::-1])
    header.set_slope_inter(form.slope, form.intercept)
    for name, value in scan.kept.items():
        header[name] = value
    header["descrip"] = f"medrecon {derivation.version} {derivation.layers}".encode("ascii", "replace")[:79]
    header.set_xyzt_units("mm")
    header.set_qform(scan.affine, code=1)  # sets the voxel sizes too
    header.set_sform(scan.affine, code=1)
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
