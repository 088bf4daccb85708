"""Mutated volume files through the whole path: read, the identity, written in each format, read again.

What is refused is refused by the reader, in one line. What is read is what nibabel or ITK reads, or something
is said of it; and it can be written, its values equal. 15 of each kind run here; `MEDRECON_FUZZ=5000 pytest
tests/io/test_fuzz_volumes.py` runs as many.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import warnings
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImaged

from medrecon.inference.pipeline import Pipeline
from medrecon.io import SaveReconstructiond, Scan, ScanError, find_one, plan_outputs, read_scan
from medrecon.io.formats import ENDINGS
from medrecon.io.itk.header import itk_path

from .volume_mutants import mutant, whole

COUNT = int(os.environ.get("MEDRECON_FUZZ", "15"))
NAMES = (
    "a.nii", "a2.nii", "a.nii.gz", "a.hdr", "a.nrrd", "a.packed.nrrd", "a.nhdr", "a.mha", "a.packed.mha",
    "a.mhd", "a.text.nrrd",
)  # fmt: skip
OUTPUTS = [ending for endings in ENDINGS.values() for ending in endings]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Values and affine as nibabel reads them; None where it does not."""
    try:
        image = nib.load(path)
        return np.asarray(image.dataobj).astype(float), image.affine
    except Exception:
        return None


def by_itk(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Values and affine as ITK reads them; None where it does not, or reads no scalar volume."""
    try:
        reader = sitk.ImageFileReader()
        if path.suffix not in (".nii", ".gz", ".hdr"):
            reader.SetImageIO("NrrdImageIO" if path.suffix in (".nrrd", ".nhdr") else "MetaImageIO")
        reader.SetFileName(itk_path(path))
        image = reader.Execute()
        values = sitk.GetArrayFromImage(image).astype(float).transpose(2, 1, 0)
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        return values, np.diag([-1.0, -1, 1, 1]) @ affine
    except Exception:
        return None


def agrees(other: tuple[np.ndarray, np.ndarray] | None, values: np.ndarray, affine: np.ndarray) -> bool:
    if other is None or other[0].size != values.size:
        return False
    scale = max(1.0, float(np.abs(affine).max()))
    close = np.allclose(other[0].reshape(values.shape), values, rtol=1e-5)
    return close and float(np.abs(other[1] - affine).max()) < 1e-3 * scale


def others_read_the_same(path: Path, scan: Scan, values: np.ndarray) -> bool:
    if "packed.mha" in path.name and not re.search(rb"\nCompressedDataSize[ \t]*=", path.read_bytes()):
        return True  # ITK unpacks nothing then, and hands out memory that nobody wrote to
    readers = (by_nibabel, by_itk) if scan.format == "nifti" else (by_itk,)
    return any(agrees(reader(path), values, scan.affine) for reader in readers)


LOAD = LoadImaged(
    "image", reader="medrecon.io.ScanReader", dtype=None, ensure_channel_first=True, expanduser=False
)


def read(path: Path) -> tuple[Scan, dict] | None:
    """The scan and MONAI's item; None where it is refused, in one line and in time."""
    start, refusal, result = time.process_time(), None, None
    try:
        scan = find_one(path)
        result = scan, LOAD({"image": scan})
    except ScanError as error:
        refusal = error
    if refusal is not None:
        assert "\n" not in str(refusal)
        assert refusal.remedy
        assert str(path.parent) in str(refusal)
    assert time.process_time() - start < 5
    return result


def goes_the_whole_path(path: Path, target: Path, only_here: Counter[str]) -> bool:
    """Read the file, write it to `target`, and read that: all the same. False where the file is refused.

    What no other reader reads like that must have a note; they are counted in `only_here`.
    """
    found = read(path)
    if found is None:
        return False
    scan, item = found
    values = read_scan(scan)
    assert np.array_equal(item["image"][0].numpy(), values)
    if not others_read_the_same(path, scan, values):
        assert scan.notes
        only_here[re.sub(r"[\d.e+-]*\d", "#", " | ".join(scan.notes))[:200]] += 1
    plan = plan_outputs([scan], ["input"], target)
    SaveReconstructiond(targets=plan, results=["input"], scans=[scan])(item | {"pred": item["image"]})
    back = find_one(target)
    again = read_scan(back)
    assert np.array_equal(again, values)
    assert again.dtype == values.dtype
    scale = max(1.0, float(np.abs(scan.affine).max()))
    assert np.abs(back.affine - scan.affine).max() < 1e-4 * scale
    return True


@pytest.mark.parametrize("name", NAMES)
def test_mutants_through_the_whole_path(name: str, tmp_path: Path) -> None:
    data = whole(name, tmp_path)
    path, taken, wrong, only_here = tmp_path / name, 0, [], Counter[str]()
    for seed in range(COUNT):
        path.write_bytes(mutant(name, data, seed))
        target = tmp_path / f"{seed}" / f"out{OUTPUTS[seed % len(OUTPUTS)]}"
        try:
            taken += goes_the_whole_path(path, target, only_here)
        except Exception as error:
            wrong.append(f"mutant {seed}: {type(error).__name__}: {str(error)[:300]}")
        shutil.rmtree(target.parent, ignore_errors=True)
    print(f"{name}: {taken} of {COUNT} read, {len(wrong)} wrong; only here: {dict(only_here)}")
    assert not wrong
    assert 0 < taken < COUNT


@pytest.mark.parametrize("name", NAMES)
def test_mutants_through_the_pipeline(name: str, tmp_path: Path, tiny_bundle: Path) -> None:
    """The same as `medrecon reconstruct --layers input` does it, the network's result beside it."""
    data = whole(name, tmp_path)
    path, ran = tmp_path / name, 0
    for seed in range(COUNT):
        if ran == max(1, COUNT // 15):
            break
        path.write_bytes(mutant(name, data, seed))
        found = read(path)
        if found is None:
            continue
        ran += 1
        scan, _ = found
        pipeline = Pipeline.from_bundle(
            tiny_bundle, scans=[scan], output=tmp_path / f"{seed}", layers="input,coarse2", device="cpu"
        )
        record = pipeline.run(scan)
        assert np.array_equal(read_scan(find_one(record.outputs["input"])), read_scan(scan)), seed
        assert read_scan(find_one(record.outputs["coarse2"])).shape == scan.shape
    assert ran
