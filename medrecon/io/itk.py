"""NRRD and MetaImage files as scans, through SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.io.scan import ReadOptions, Scan, ScanError
from medrecon.io.series import scan_key
from medrecon.io.voxels import check_finite, narrow

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_scan(path: Path, volume: int | None, options: ReadOptions) -> Scan:
    """The scan of one NRRD or MetaImage file.

    Raises:
        ScanError: broken, or not one scalar volume.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ScanError(
            f"broken header ({str(error).splitlines()[-1]})", path=path, remedy="save it again"
        ) from None
    size = [*reader.GetSize(), 1, 1][:3]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    return Scan(
        path=path,
        format="nrrd" if path.suffix.lower() in (".nrrd", ".nhdr") else "mha",
        files=(path,),
        shape=(int(size[0]), int(size[1]), int(size[2])),
        affine=LPS @ affine,
        key=scan_key(str(path.resolve()), volume),
        description=path.stem,
        options=options,
    )


def read_itk(scan: Scan) -> tuple[np.ndarray, list[str]]:
    """The voxels (X, Y, Z) and what was noticed."""
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(sitk.ReadImage(str(scan.path)))
    values, notes = check_finite(values, scan)
    return narrow(values).transpose(2, 1, 0), notes
