"""What 3D Slicer's own reader makes of DICOM series: IJK -> RAS, shape, and voxels beside pydicom's.

    python tests/io/slicer_geometry.py SERIES_FOLDER ... [--save FOLDER]

A job of its own: its Python has slicer-core (PyPI, 5.13) and pydicom, and nothing of medrecon. One line of
JSON for each folder; `--save` also writes the voxels (I, J, K) as 0.npy, 1.npy, ...

Files are sorted and read as Slicer's DICOM module does it (DICOMUtils.getSortedImageFiles,
DICOMScalarVolumePlugin.loadFilesWithSeriesReader with GDCM): vtkITK's archetype series reader.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import slicer_core
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonMath import vtkMatrix4x4


def slices_of(folder: Path) -> list[tuple[Path, pydicom.Dataset]]:
    """The images of a folder, sorted along the normal of the first as Slicer sorts them."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        if "PixelData" in header:
            found.append((path, header))
    if len(found) < 2:
        return found
    axes = np.asarray(found[0][1].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(*axes)
    return sorted(found, key=lambda entry: float(normal @ np.asarray(entry[1].ImagePositionPatient, float)))


def read_by_slicer(files: list[Path]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Voxels (I, J, K), IJK -> RAS (4, 4), and what the reader complained of."""
    reader = slicer_core.vtkITKArchetypeImageSeriesScalarReader()
    said: list[str] = []
    for event in ("ErrorEvent", "WarningEvent"):
        reader.AddObserver(event, lambda caller, name: said.append(name))
    reader.SetSingleFile(0)
    reader.SetArchetype(str(files[0]))
    reader.ResetFileNames()
    for path in files:
        reader.AddFileName(str(path))
    reader.SetOutputScalarTypeToNative()
    reader.SetDesiredCoordinateOrientationToNative()
    reader.SetUseNativeOriginOn()
    reader.SetDICOMImageIOApproachToGDCM()
    reader.Update()
    if reader.GetErrorCode():
        said.append(f"error code {reader.GetErrorCode()}")
    image = reader.GetOutput()
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    matrix = vtkMatrix4x4()
    vtkMatrix4x4.Invert(reader.GetRasToIjkMatrix(), matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return values.reshape(image.GetDimensions(), order="F"), affine, said


def read_by_pydicom(headers: list[pydicom.Dataset]) -> np.ndarray:
    """Voxels (I, J, K), rescaled slice by slice (frame by frame for an enhanced object)."""
    planes: list[np.ndarray] = []
    for header in headers:
        frames = header.pixel_array.reshape(-1, header.Rows, header.Columns).astype(np.float64)
        for index, frame in enumerate(frames):
            slope, intercept = scaling(header, index)
            planes.append(frame * slope + intercept)
    return np.stack(planes).transpose(2, 1, 0)


def scaling(header: pydicom.Dataset, index: int) -> tuple[float, float]:
    """Rescale slope and intercept of a frame."""
    for groups, frame in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        if groups in header and "PixelValueTransformationSequence" in header[groups][frame]:
            header = header[groups][frame].PixelValueTransformationSequence[0]
            break
    return float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))


def judge(folder: Path, save: Path | None) -> dict[str, Any]:
    """What is printed of a series."""
    entries = slices_of(folder)
    if not entries:
        return {"series": str(folder), "error": "no DICOM image"}
    voxels, affine, said = read_by_slicer([path for path, _ in entries])
    report: dict[str, Any] = {
        "series": str(folder),
        "shape": voxels.shape,
        "type": voxels.dtype.name,
        "ijk_to_ras": affine.tolist(),
        "said": said,
    }
    other = read_by_pydicom([header for _, header in entries])
    report["same_shape"] = other.shape == voxels.shape
    if report["same_shape"]:
        report["off"] = float(np.abs(voxels.astype(np.float64) - other).max())
        report["equal"] = report["off"] == 0
    if save is not None:
        np.save(save, voxels)
    return report


def main() -> None:
    """Judge each folder; the exit code is 1 where one cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="SERIES_FOLDER")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write the voxels here")
    given = parser.parse_args()
    failed = False
    for index, folder in enumerate(given.folders):
        try:
            report = judge(folder, given.save / f"{index}.npy" if given.save else None)
        except Exception as error:
            report = {"series": str(folder), "error": f"{type(error).__name__}: {error}"}
        failed = failed or "error" in report
        print(json.dumps(report), flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
