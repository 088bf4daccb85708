"""The sample scans: made again as committed, conformant, oblique, and like the tissues they show."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import subprocess
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from ..programs import needed

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample_data"


def tissue_at(mask: np.ndarray, margin: int) -> np.ndarray:
    """Where a tissue is at least `margin` voxels thick on each side, so that no partial volume counts."""
    return ndimage.binary_erosion(mask, iterations=margin)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_make", SAMPLES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slices() -> list[pydicom.Dataset]:
    found = [pydicom.dcmread(p) for p in sorted((SAMPLES / "ct_torso").glob("*.dcm"))]
    assert len(found) == 64
    return found


@pytest.fixture(scope="module")
def torso(slices) -> np.ndarray:
    """(columns, rows, slices) HU, sorted along the normal."""
    normal = np.cross(slices[0].ImageOrientationPatient[:3], slices[0].ImageOrientationPatient[3:])
    order = sorted(slices, key=lambda ds: float(normal @ np.array(ds.ImagePositionPatient, float)))
    return np.stack([ds.pixel_array.T.astype(np.int32) + int(ds.RescaleIntercept) for ds in order], -1)


@pytest.fixture(scope="module")
def head() -> nib.Nifti1Image:
    return nib.load(SAMPLES / "mr_head.nii.gz")


@pytest.fixture(scope="module")
def again(script, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    script.make(folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    paths = [folder / "mr_head.nii.gz", *sorted((folder / "ct_torso").glob("*.dcm"))]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def headers(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {"mr_head.nii.gz": nib.load(folder / "mr_head.nii.gz").header.binaryblock}
    for path in (folder / "ct_torso").glob("*.dcm"):
        found[path.name] = pydicom.dcmread(path, stop_before_pixels=True)
    return found


def pixels(folder: Path) -> dict[str, np.ndarray]:
    found = {p.name: pydicom.dcmread(p).pixel_array for p in (folder / "ct_torso").glob("*.dcm")}
    return found | {"mr_head.nii.gz": np.asanyarray(nib.load(folder / "mr_head.nii.gz").dataobj)}


@pytest.mark.slow
def test_the_script_makes_the_committed_scans_again(again):
    if digests(again) == digests(SAMPLES):
        return
    # another processor or another version rounds a few voxels to the other side: no more than that
    assert headers(again) == headers(SAMPLES)
    made, kept = pixels(again), pixels(SAMPLES)
    assert made.keys() == kept.keys()
    off = np.concatenate([np.abs(made[n].astype(int) - kept[n].astype(int)).ravel() for n in kept])
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


@pytest.mark.slow
def test_a_second_run_writes_the_same_bytes(again, script):
    before = digests(again)
    script.make(again)
    assert digests(again) == before


def test_small_and_without_traces():
    files = [*SAMPLES.glob("*.nii.gz"), *SAMPLES.rglob("*.dcm"), *SAMPLES.glob("*.py"), *SAMPLES.glob("*.md")]
    assert sum(p.stat().st_size for p in files) < 3.1e6
    raw = (SAMPLES / "mr_head.nii.gz").read_bytes()
    assert raw[3] == 0  # no file name in the gzip header
    assert raw[4:8] == bytes(4)  # no time
    image = nib.Nifti1Image.from_bytes(gzip.decompress(raw))
    assert image.shape == (110, 138, 92)


def test_dciodvfy_finds_nothing():
    for path in sorted((SAMPLES / "ct_torso").glob("*.dcm"))[::9]:
        done = subprocess.run([needed("dciodvfy"), path], capture_output=True, text=True, check=False)
        report = done.stdout + done.stderr
        assert done.returncode == 0, report
        assert "Error" not in report, report
        assert "Warning" not in report, report


def test_one_series_with_uids_of_its_own(slices):
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({ds[name].value for ds in slices}) == 1, name
    assert len({ds.SOPInstanceUID for ds in slices}) == len(slices)
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in slices)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, slices[0])
    assert pydicom.dcmread(io.BytesIO(buffer.getvalue())) == slices[0]


def test_stored_as_scanners_do(slices):
    for ds in slices:
        assert (ds.Columns, ds.Rows) == (128, 112)
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation) == (16, 12, 11, 0)
        assert (ds.RescaleSlope, ds.RescaleIntercept) == (1, -1024)
        assert ds.pixel_array.max() < 4096


def test_ct_lies_obliquely_about_two_axes(slices):
    position = np.array([ds.ImagePositionPatient for ds in slices], float)
    row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(column) == pytest.approx(1, abs=1e-6)
    assert row @ column == pytest.approx(0, abs=1e-6)
    normal = np.cross(row, column)
    steps = np.diff(position, axis=0)
    np.testing.assert_allclose(steps, np.outer(np.full(63, -2.5), normal), atol=1e-5)
    for axis in (row, column, normal):
        assert np.abs(axis).max() < np.cos(np.deg2rad(5))
    # two rotations leave at most one direction cosine at zero
    assert sum(abs(v) < 0.01 for axis in (row, column, normal) for v in axis) <= 1
    spacing = [*np.array(slices[0].PixelSpacing, float), 2.5]
    assert spacing == [1.8, 2.1, 2.5]
    assert [int(ds.InstanceNumber) for ds in slices] == list(range(1, 65))


def test_mr_lies_obliquely_about_two_axes(head):
    affine = head.affine
    assert np.asanyarray(head.dataobj).dtype == np.int16
    assert head.header.get_xyzt_units()[0] == "mm"
    for form, code in (head.get_sform(coded=True), head.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(form, affine, atol=1e-4)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, (1.3, 1.25, 1.35), atol=1e-5)
    directions = affine[:3, :3] / spacing
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-6)
    assert np.abs(directions).max(axis=0).max() < np.cos(np.deg2rad(5))
    assert (np.abs(directions) < 0.01).sum() <= 1


def test_ct_tissues_are_where_and_what_they_should_be(torso):
    assert torso.shape == (128, 112, 64)
    body = np.stack([ndimage.binary_fill_holes(plane > -300) for plane in np.moveaxis(torso, 2, 0)], -1)
    lung = tissue_at((torso < -600) & (torso > -960) & body, 2)
    assert -900 < np.median(torso[lung]) < -780
    assert lung[:, :, 40:].sum() > 10 * lung[:, :, :15].sum()  # above, not below
    fat = tissue_at((torso > -140) & (torso < -60), 1)
    assert -115 < torso[fat].mean() < -85
    soft = tissue_at((torso > 20) & (torso < 260), 2)
    assert 60 < np.median(torso[soft]) < 160
    liver = torso[32:46, 40:60, 18:30]  # low column index is the patient's right
    assert 90 < np.median(liver) < 120
    assert 8 < liver.std() < 40
    assert np.median(torso[:6, :6]) < -970
    assert 600 < np.percentile(torso, 99.9) < 1200
    noise = np.diff(torso[36:44, 44:56, 20:28].astype(float), axis=0).std() / np.sqrt(2)
    assert 4 < noise < 25
    assert len(np.unique(torso)) > 1500


def test_mr_tissues_are_where_and_what_they_should_be(head):
    volume = np.asanyarray(head.dataobj).astype(float)
    assert np.median(volume[:6, :6, -6:]) <= 2  # air, with noise
    assert volume[:6, :6, -6:].std() > 0.3
    centre = np.linalg.solve(head.affine[:3, :3], np.array([-2.0, 18.0, 31.0]) - head.affine[:3, 3]).astype(
        int
    )
    x, y, z = centre
    brain = volume[x - 35 : x + 35, y - 45 : y + 45, z + 5 : z + 35]
    histogram, edges = np.histogram(ndimage.gaussian_filter(brain, 0.5), bins=60, range=(0, 150))
    white = edges[histogram.argmax()] + 1.25
    assert 90 < white < 120
    shares = [
        ((brain > a * white) & (brain < b * white)).mean() for a, b in ((0.05, 0.4), (0.5, 0.8), (0.9, 1.15))
    ]
    assert shares[0] > 0.03  # fluid
    assert shares[1] > 0.15  # grey matter
    assert shares[2] > 0.3  # white matter
    # left and right are alike, not the same
    mirrored = brain[::-1]
    assert 0.2 < np.corrcoef(brain.ravel(), mirrored.ravel())[0, 1] < 0.95
