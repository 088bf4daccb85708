"""The data type of a NIfTI output: the source's where the values fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medrecon.errors import OutputError
from medrecon.io.axes import turned
from medrecon.io.scan import Scan, ScanError

_WHOLE = (np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class NiftiForm:
    """How values are stored: `value = stored * slope + intercept`.

    Attributes:
        dtype: of the stored numbers.
        slope: scl_slope, as `intercept` is scl_inter.
        warning: what must be said, "" for nothing.
    """

    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0
    warning: str = ""

    @property
    def words(self) -> str:
        """The form in words."""
        scaled = (
            ""
            if (self.slope, self.intercept) == (1, 0)
            else f", slope {self.slope:g}, intercept {self.intercept:g}"
        )
        return f"{self.dtype.name}{scaled}"

    def store(self, volume: np.ndarray) -> np.ndarray:
        """The volume (X, Y, Z) as stored numbers (Z, Y, X), little endian: NIfTI's order of bytes."""
        return turned(volume, self.dtype.newbyteorder("<"), self._convert)

    def _convert(self, volume: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "f" or (volume.dtype.kind in "iu" and (self.slope, self.intercept) == (1, 0)):
            return volume
        wide = volume.astype(np.float64) if volume.dtype.kind in "iu" or self.dtype.itemsize > 2 else volume
        if (self.slope, self.intercept) != (1, 0):
            wide = (volume.astype(np.float64) - self.intercept) / self.slope
        return np.rint(wide)


def source_header(scan: Scan) -> nib.Nifti1Header | None:
    """The header of a NIfTI source, its scaling included; None for other sources."""
    if scan.format != "nifti":
        return None
    try:
        image: Any = nib.load(scan.files[0])
    except (OSError, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise ScanError(
            f"cannot be read again for writing ({error})",
            path=scan.path,
            remedy="keep the source until the end",
        ) from error
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        return None
    header = header.copy()
    header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)  # loading takes them out of the header
    return header


def choose_form(volume: np.ndarray, scan: Scan, header: nib.Nifti1Header | None) -> NiftiForm:
    """The source's data type and scaling where the values fit, else the narrowest that holds them.

    Args:
        volume: (X, Y, Z) values in the source's units.
        scan: the source.
        header: its header where it is NIfTI.

    Raises:
        OutputError: values are not finite, and the source's data type cannot say so.
    """
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(np.count_nonzero(~np.isfinite(volume)))
        raise OutputError(
            f"{count} voxels of the result are not finite numbers", remedy="check the model and its weights"
        )
    kind, slope, intercept = _source_form(volume, scan, header)
    if kind.kind == "f":
        return NiftiForm(np.dtype(np.float64 if kind.itemsize > 4 else np.float32))
    ends = np.rint([(low - intercept) / slope, (high - intercept) / slope])
    limits = np.iinfo(kind)
    if limits.min <= ends.min() and ends.max() <= limits.max:
        return NiftiForm(kind, slope, intercept)
    if (slope, intercept) == (1, 0):
        for wider in map(np.dtype, _WHOLE):
            limits = np.iinfo(wider)
            if limits.min <= ends.min() and ends.max() <= limits.max and wider.itemsize >= kind.itemsize:
                said = "" if scan.format == "dicom" else _warning(kind, wider)
                return NiftiForm(wider, warning=said)
    return NiftiForm(np.dtype(np.float32), warning=_warning(kind, np.dtype(np.float32)))


def _warning(kind: np.dtype, chosen: np.dtype) -> str:
    return f"values do not fit the source's {kind.name}: written as {chosen.name}"


def _source_form(
    volume: np.ndarray, scan: Scan, header: nib.Nifti1Header | None
) -> tuple[np.dtype, float, float]:
    if header is not None:
        kind = header.get_data_dtype().newbyteorder("=")
        slope, intercept = header.get_slope_inter()
        return kind, 1.0 if slope is None else float(slope), intercept or 0.0
    if scan.format == "dicom":
        scales = [float(v) for frame in scan.recipe or () for v in (frame.slope, frame.intercept)]
        whole = volume.dtype.kind in "iu" or (scales and all(v.is_integer() for v in scales))
        return np.dtype(np.int16 if whole else np.float32), 1.0, 0.0
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(scan.files[0]))
    reader.ReadImageInformation()
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    names = {"8-bit unsigned": "u1", "8-bit signed": "i1", "16-bit unsigned": "u2", "16-bit signed": "i2"}
    names |= {"32-bit unsigned": "u4", "32-bit signed": "i4", "64-bit unsigned": "u8", "64-bit signed": "i8"}
    names |= {"32-bit float": "f4"}
    return np.dtype(next((kind for name, kind in names.items() if pixel.startswith(name)), "f8")), 1.0, 0.0
