"""Round trips of derived series, and what other programs make of them."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from medrecon.errors import OutputError
from medrecon.io import Derivation, DicomSeriesWriter, find_one, find_scans, read_scan
from medrecon.io.scan import ScanError

from ..programs import entity_faults, errors, needed

LEVEL3 = Derivation("volume_autoencoder", "0.1.0", "ab" * 32, "level3", lossy=True, values_per_voxel=1 / 16)
ENCODINGS = {
    "12 bit": {"bits": 12},
    "int16": {"bits": 16, "signed": True, "intercept": 0},
    "uint16": {"bits": 16, "intercept": 0},
    "implicit": {"syntax": ImplicitVRLittleEndian},
    "big endian": {"syntax": ExplicitVRBigEndian},
    "RLE": {"syntax": RLELossless},
    "slopes": {"bits": 15, "slopes": [0.5, 0.71, 0.93, 1.1, 3.7], "intercept": 0},
}


def write(scan, path: Path, volume: np.ndarray | None = None, **options):
    writer = DicomSeriesWriter(**options)
    writer.set_data_array(read_scan(scan) if volume is None else volume, channel_dim=None)
    writer.set_scan(scan)
    return writer.write(path)


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    index = np.array(
        [[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    )
    return (affine @ index.T)[:3].T


def itk_volume(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


def dcm2niix(folder: Path, to: Path) -> nib.Nifti1Image:
    to.mkdir()
    subprocess.run(
        [needed("dcm2niix"), "-z", "n", "-f", "x", "-o", str(to), str(folder)],
        check=True,
        capture_output=True,
    )
    (file,) = to.glob("*.nii")
    return nib.load(file)


def in_ras_order(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    image = nib.as_closest_canonical(nib.Nifti1Image(values.astype(np.float64), affine))
    return np.asarray(image.dataobj)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_identity_round_trip_is_exact(tmp_path, make_series, modality, orientation, encoding):
    options = {"intercept": -1024 if modality == "CT" else 0, **ENCODINGS[encoding]}
    made = make_series(tmp_path / "in", modality, orientation=orientation, **options)
    source = find_one(tmp_path / "in")
    values = read_scan(source)
    assert np.abs(values - made).max() < 1e-6 * max(1.0, np.abs(made).max())
    written = write(source, tmp_path / "out", values)
    back = find_one(tmp_path / "out")
    assert np.array_equal(read_scan(back), values)
    assert np.abs(back.affine - source.affine).max() == 0
    assert (back.modality, back.units, back.shape) == (source.modality, source.units, source.shape)
    assert "as the source" in written.encoding


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_other_programs_read_the_same(tmp_path, make_series, modality):
    make_series(tmp_path / "in", modality, orientation="oblique", intercept=-1024 if modality == "CT" else 0)
    source = find_one(tmp_path / "in")
    values = read_scan(source)
    write(source, tmp_path / "out", values)
    voxels, affine = itk_volume(tmp_path / "out")
    assert np.array_equal(voxels, values)
    assert np.abs(corners(affine, values.shape) - corners(source.affine, values.shape)).max() < 1e-3
    image = dcm2niix(tmp_path / "out", tmp_path / "nii")
    theirs = in_ras_order(np.asarray(image.dataobj), image.affine)
    assert np.array_equal(theirs, in_ras_order(values, source.affine))
    ours, theirs = corners(source.affine, values.shape), corners(image.affine, image.shape)
    assert np.linalg.norm(ours[:, None] - theirs[None], axis=2).min(axis=1).max() < 1e-3


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("derivation", [None, LEVEL3])
def test_the_validators_find_no_error(tmp_path, make_series, modality, derivation):
    encoding = {"bits": 12, "intercept": -1024} if modality == "CT" else {"bits": 16, "intercept": 0}
    make_series(tmp_path / "in", modality, orientation="oblique", shape=(14, 12, 3), **encoding)
    source = find_one(tmp_path / "in")
    assert errors(list(source.files)) == set()
    volume = None if derivation is None else read_scan(source) * np.float32(0.9) - 20
    write(source, tmp_path / "out", volume, derivation=derivation)
    made = sorted((tmp_path / "out").iterdir())
    assert errors(made) == set()
    assert entity_faults([*source.files, *made]) == set()


def test_pet_slopes_are_rewritten_when_values_leave_their_range(tmp_path, make_series):
    options = ENCODINGS["slopes"]
    make_series(tmp_path / "in", "PT", **options)
    source = find_one(tmp_path / "in")
    values = read_scan(source) - 5
    write(source, tmp_path / "out", values)
    image = pydicom.dcmread(tmp_path / "out" / "IM00001.dcm")
    step = float(image.RescaleSlope)
    assert float(image.RescaleIntercept) == 0
    assert np.abs(read_scan(find_one(tmp_path / "out")) - values).max() <= step / 2 * 1.001
    assert errors(sorted((tmp_path / "out").iterdir())) == set()


def test_clipped_voxels_are_counted_and_said(tmp_path, make_series, caplog):
    make_series(tmp_path / "in", "MR", bits=16, intercept=0)
    source = find_one(tmp_path / "in")
    values = read_scan(source).astype(np.float32)
    values[3, 4, 2] = 70000
    with caplog.at_level(logging.WARNING, "medrecon"):
        written = write(source, tmp_path / "out", values)
    assert written.clipped == 1
    assert "1 of 840 voxels clipped" in caplog.text
    assert "1 voxels clipped" in pydicom.dcmread(tmp_path / "out" / "IM00001.dcm").DerivationDescription


def test_the_volume_must_fit_the_source(tmp_path, make_series):
    make_series(tmp_path / "in")
    with pytest.raises(OutputError, match="does not fit the source"):
        write(find_one(tmp_path / "in"), tmp_path / "out", np.zeros((3, 3, 3), np.int16))
    with pytest.raises(OutputError, match="nothing to write"):
        DicomSeriesWriter().write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tilted_stack_is_written_on_its_straight_grid(tmp_path, make_series):
    def tilt(image, index):
        place = [float(v) for v in image.ImagePositionPatient]
        image.ImagePositionPatient = [f"{v:.6g}" for v in (place[0], place[1] + 0.8 * index, place[2])]
        image.GantryDetectorTilt = "17.7"

    make_series(tmp_path / "in", shape=(20, 24, 6), change=tilt)
    source = find_one(tmp_path / "in", resample=True)
    values = read_scan(source)
    written = write(source, tmp_path / "out", values)
    back = find_one(tmp_path / "out")
    assert np.abs(corners(back.affine, back.shape) - corners(source.affine, source.shape)).max() < 1e-3
    assert np.abs(read_scan(back).astype(float) - values).max() <= 0.5
    image = pydicom.dcmread(tmp_path / "out" / "IM00003.dcm")
    assert image.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert "113085" in [item.CodeValue for item in image.DerivationCodeSequence]
    assert any("resampled grid" in line for line in written.warnings)
    assert errors(sorted((tmp_path / "out").iterdir())) == set()


@pytest.mark.real_data
def test_derived_series_of_real_scans(shared_dir, tmp_path):
    """No error that the source does not show, and the identity exact, over every series that can be read."""
    folders = [shared_dir / "data" / "real" / "mr_adc_prostate_ge_signahdxt_256x256x20_dicom"]
    edge = shared_dir / "data" / "edge"
    names = os.environ.get("MEDRECON_EDGE", "22_ 26_ 27_ 31_patient_position_HFP 33_ 35_ 42_ 47_").split()
    folders += sorted(folder for folder in edge.iterdir() if folder.name.startswith(tuple(names)))
    done = 0
    for folder in folders:
        try:
            scans = find_scans(folder).scans
        except ScanError:
            continue
        for scan in (scan for scan in scans if scan.format == "dicom"):
            final = tmp_path / f"{folder.name}_{scan.key}"
            values = read_scan(scan)
            write(scan, final, values, derivation=LEVEL3)
            back = find_one(final)
            assert np.array_equal(read_scan(back), values), folder
            assert np.abs(back.affine - scan.affine).max() < 1e-6, folder
            source = sorted(set(scan.files))
            assert errors(sorted(final.iterdir())[:3]) <= errors(source[:3]), folder
            assert entity_faults([*source, *final.iterdir()]) <= entity_faults(source), folder
            done += 1
    assert done >= 7


@pytest.mark.parametrize("padded", [True, False])
def test_the_source_is_read_again_only_where_it_is_padded(tmp_path, make_series, monkeypatch, padded):
    def change(image, index):
        image.SpecificCharacterSet = "ISO_IR 192"
        if padded:
            image.add_new("PixelPaddingValue", "SS", -2000)

    make_series(tmp_path / "in", change=change)
    scan = find_one(tmp_path / "in")
    volume, read = read_scan(scan), []
    monkeypatch.setattr(
        "medrecon.io.dicom.writing.writer.read_scan", lambda scan: (read.append(scan), volume)[1]
    )
    writer = DicomSeriesWriter()
    writer.set_data_array(volume, channel_dim=None)
    writer.set_scan(scan)
    writer.write(tmp_path / "out")
    assert len(read) == padded
