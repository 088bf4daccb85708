"""Read the voxels of a scan that was found."""

from __future__ import annotations

import numpy as np

from medrecon.errors import OutOfMemoryError
from medrecon.io.dicom.reading.pixels import read_frames
from medrecon.io.dicom.reading.regrid import resample
from medrecon.io.hounsfield import hu_note
from medrecon.io.itk.volume import read_text
from medrecon.io.nifti.volume import read_nifti
from medrecon.io.scan import Scan
from medrecon.io.voxels import beyond_float32, is_constant


class ScanWarning(UserWarning):
    """Something about a scan that must be said and does not stop it."""


def load(scan: Scan) -> tuple[np.ndarray, list[str]]:
    """The voxels (X, Y, Z) in stored units, and what was noticed while reading them.

    Raises:
        ScanError: the voxels cannot be read.
        OutOfMemoryError: they do not fit.
    """
    volume, notes = _load(scan)
    return volume, [*notes, *beyond_float32(volume), *hu_note(scan, volume)]


def _load(scan: Scan) -> tuple[np.ndarray, list[str]]:
    try:
        if scan.format == "dicom":
            volume = read_frames(scan.recipe.frames)
            if scan.recipe.resampling is not None:
                volume = resample(volume, scan.recipe.resampling, scan.shape)
            return volume, ["all voxels have the same value"] if is_constant(volume) else []
        if scan.format == "nifti":
            return read_nifti(scan)
        return read_text(scan)
    except MemoryError:
        raise OutOfMemoryError(
            "does not fit into memory", path=scan.path, remedy="use a machine with more, or fewer at once"
        ) from None


def read_scan(scan: Scan) -> np.ndarray:
    """The voxels of a scan.

    Returns:
        (X, Y, Z) in stored units (HU for CT). Whole numbers in the smallest of uint8 (8-bit sources), int16,
        uint16, int32 that holds them; else float32 for sources of at most 16 bits, float64 for others.

    Raises:
        ScanError: a file changed since it was found, is broken, or holds NaN or Inf.
    """
    return load(scan)[0]
