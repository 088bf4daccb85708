"""What every format that is read promises. A format joins with a function that makes a file of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage

from medrecon.io import ScanError, ScanReader, find_one, find_scans, read_scan
from medrecon.io.meta import scan_of

from .conftest import write_series

SHAPE = (7, 6, 5)
SPACING, ORIGIN = (0.5, 0.75, 2.5), (-11.0, 7.25, 100.0)
Made = tuple[Path, np.ndarray, np.ndarray]
"""What to read, its values (X, Y, Z), and the places of three voxels, (3, 4) in RAS mm."""


def numbers(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 3000, (*SHAPE[::-1], count)).astype(np.int16)


def by_itk(name: str) -> Callable[[Path, int], Made]:
    def make(folder: Path, count: int = 1) -> Made:
        values = numbers(count)
        images = [sitk.GetImageFromArray(values[..., k]) for k in range(count)]
        for image in images:
            image.SetSpacing(SPACING)
            image.SetOrigin(ORIGIN)
            image.SetDirection(np.linalg.qr([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0.1, -0.1, 1]])[0].ravel())
        sitk.WriteImage(sitk.JoinSeries(images) if count > 1 else images[0], str(folder / name), True)
        return folder / name, values[..., -1].transpose(2, 1, 0), corners(images[0])

    return make


def corners(image: sitk.Image) -> np.ndarray:
    points = [image.TransformIndexToPhysicalPoint(p) for p in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (6, 5, 4))]
    return np.diag([-1, -1, 1]) @ np.transpose(points)


def nifti(name: str) -> Callable[[Path, int], Made]:
    def make(folder: Path, count: int = 1) -> Made:
        path, values, places = by_itk("source.nii")(folder, count)
        image = nib.load(path)
        kinds = {"a.hdr": nib.Nifti1Pair, "a2.nii": nib.Nifti2Image}
        kind = kinds.get(name, nib.Nifti1Image)
        made = kind(np.asarray(image.dataobj), image.affine)
        made.set_qform(image.affine, 1)
        made.set_sform(image.affine, 1)
        nib.save(made, folder / name)
        path.unlink()
        return folder / name, values, places

    return make


def dicom(folder: Path, count: int = 1) -> Made:
    for k in range(count):
        values = write_series(folder / f"{k}", shape=SHAPE, seed=k, orientation="oblique")
    return folder / f"{count - 1}", values, corners(sitk.ReadImage(series(folder / f"{count - 1}")))


def series(folder: Path) -> list[str]:
    return list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


FORMATS: dict[str, Callable[[Path, int], Made]] = {
    "DICOM": dicom,
    "NIfTI-1": nifti("a.nii"),
    "NIfTI-1, gzip": nifti("a.nii.gz"),
    "NIfTI-2": nifti("a2.nii"),
    "NIfTI pair": nifti("a.hdr"),
    "NRRD": by_itk("a.nrrd"),
    "NRRD, two files": by_itk("a.nhdr"),
    "MetaImage": by_itk("a.mha"),
    "MetaImage, two files": by_itk("a.mhd"),
}
each_format = pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS)


@each_format
def test_values_and_places(make: Callable[[Path, int], Made], tmp_path: Path) -> None:
    path, values, places = make(tmp_path, 1)
    scan = find_one(path)
    assert scan.shape == SHAPE
    assert np.array_equal(read_scan(scan), values)
    index = np.array([(0, 0, 0, 1), (6, 0, 0, 1), (0, 5, 0, 1), (6, 5, 4, 1)]).T
    assert np.abs((scan.affine @ index)[:3] - places).max() < 1e-4
    assert len(scan.key) == 8
    assert scan.path == path


@each_format
def test_the_way_through_monai(make: Callable[[Path, int], Made], tmp_path: Path) -> None:
    path, values, _ = make(tmp_path, 1)
    image = LoadImage(reader=ScanReader(), dtype=None, image_only=True)(path)
    assert np.array_equal(image.numpy(), values)
    scan = find_one(path)
    assert np.allclose(image.affine.numpy(), scan.affine)
    again = scan_of(image.meta)
    assert (again.key, again.shape, again.options) == (scan.key, scan.shape, scan.options)
    assert np.array_equal(read_scan(again), values)


@each_format
def test_damage_is_refused_in_one_line_that_names_the_file(
    make: Callable[[Path, int], Made], tmp_path: Path
) -> None:
    """Cut to any length, the scan is refused: nothing is filled in."""
    path, _, _ = make(tmp_path, 1)
    victim = sorted(path.iterdir())[-1] if path.is_dir() else max(tmp_path.iterdir(), key=_size)
    data = victim.read_bytes()
    for length in (0, 1, 10, len(data) // 3, len(data) // 2, len(data) - 20):
        victim.write_bytes(data[:length])
        with pytest.raises(ScanError) as caught:
            read_scan(find_one([path, victim] if path.is_dir() else path))
        assert str(tmp_path) in str(caught.value)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
    victim.write_bytes(data)
    assert read_scan(find_one(path)).shape == SHAPE


def _size(path: Path) -> int:
    return path.stat().st_size


@each_format
def test_one_of_several_is_chosen(make: Callable[[Path, int], Made], tmp_path: Path) -> None:
    path, values, _ = make(tmp_path, 3)
    if path.is_dir():  # three series
        assert len(find_scans(tmp_path).scans) == 3
        return
    with pytest.raises(ScanError, match=r"--volume 0 \.\.\. 2"):
        find_one(path)
    assert np.array_equal(read_scan(find_one(path, volume=2)), values)
