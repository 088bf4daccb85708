"""Feature maps as NIfTI or NRRD: channels behind the three axes, or colours, where the layer lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medrecon.errors import OutputError
from medrecon.io.itk.header import itk_path, place_image

_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_LONGEST = 79  # of NIfTI's description

FORMATS = {".nii.gz": "nifti", ".nii": "nifti", ".nrrd": "nrrd"}


def layer_affine(image_affine: np.ndarray, stride: Sequence[int], offset: Sequence[float]) -> np.ndarray:
    """Where the positions of a layer lie: (4, 4), position -> RAS mm.

    Args:
        image_affine: of the image that the network saw.
        stride: voxels of a position along each axis; a network of slices has two.
        offset: the voxel at which the first position is centred (`medrecon.encoders.offsets`).
    """
    local = np.eye(4)
    for axis, (step, start) in enumerate(zip(stride, offset, strict=True)):
        local[axis, axis], local[axis, 3] = step, start
    return np.asarray(image_affine, np.float64) @ local


def write_map(path: Path, values: np.ndarray, affine: np.ndarray, words: str) -> None:
    """Write one layer.

    Args:
        path: named .nii, .nii.gz or .nrrd.
        values: (C, x, y, z) float32, or (3, x, y, z) uint8 for colours.
        affine: (4, 4), position -> RAS mm.
        words: what it is.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if path.suffix == ".nrrd":
            _write_nrrd(path, values, affine)
        else:
            _write_nifti(path, values, affine, words)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot be written: {error}", path=path, remedy="check the disk") from error


def _write_nifti(path: Path, values: np.ndarray, affine: np.ndarray, words: str) -> None:
    stored = np.ascontiguousarray(values.transpose(1, 2, 3, 0))
    if stored.dtype == np.uint8:
        stored = stored.view(_RGB)[..., 0]
    elif stored.shape[3] == 1:
        stored = stored[..., 0]
    image = nib.Nifti1Image(stored, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = words.encode("ascii", "replace")[:_LONGEST]
    nib.save(image, path)


def _write_nrrd(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    stored = np.ascontiguousarray(values.transpose(3, 2, 1, 0))
    vector = stored.shape[3] > 1
    image = sitk.GetImageFromArray(stored if vector else stored[..., 0], isVector=vector)
    place_image(image, affine)
    sitk.WriteImage(image, itk_path(path), useCompression=True, compressionLevel=1)
