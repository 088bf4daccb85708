"""The signed error as a Parametric Map, read back."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from medrecon.errors import OutputError, UsageError
from medrecon.io import Derivation, find_one, write_parametric_map

from ..programs import errors, program

pytest.importorskip("highdicom")
LEVEL3 = Derivation("tiny", "0.1.0", "ab" * 32, "level3", lossy=True, values_per_voxel=1 / 16)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_values_places_and_units(tmp_path, make_series, modality, orientation):
    make_series(
        tmp_path / "in", modality, orientation=orientation, intercept=-1024 if modality == "CT" else 0
    )
    scan = find_one(tmp_path / "in")
    error = np.random.default_rng(0).normal(0, 10, scan.shape).astype(np.float32)
    path = write_parametric_map(error, scan, tmp_path / "error.dcm", derivation=LEVEL3)
    image = pydicom.dcmread(path)
    assert np.array_equal(image.pixel_array, error.transpose(2, 1, 0))
    lps = np.diag([-1, -1, 1, 1]) @ scan.affine
    for index, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        assert np.abs(place - (lps @ [0, 0, index, 1])[:3]).max() < 1e-5
    shared = image.SharedFunctionalGroupsSequence[0]
    assert shared.FrameAnatomySequence[0].AnatomicRegionSequence[0].CodeMeaning == "Chest"
    assert shared.PixelMeasuresSequence[0].SpacingBetweenSlices > 0
    assert image.ContentCreatorName == ""
    mapping = (
        image.PerFrameFunctionalGroupsSequence[0].get("RealWorldValueMappingSequence")
        or shared.RealWorldValueMappingSequence
    )[0]
    units = mapping.MeasurementUnitsCodeSequence[0].CodeValue
    assert units == {"CT": "[hnsf'U]", "MR": "1", "PT": "Bq/ml"}[modality]
    source = pydicom.dcmread(scan.files[0])
    assert image.StudyInstanceUID == source.StudyInstanceUID
    assert image.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert image.PatientID == source.PatientID
    if program("dciodvfy"):
        assert errors([path]) == set()


def test_what_cannot_be_written_is_refused(tmp_path, make_series, make_nifti):
    make_series(tmp_path / "in")
    make_nifti(tmp_path / "mr.nii.gz")
    scan, nifti = find_one(tmp_path / "in"), find_one(tmp_path / "mr.nii.gz")
    path = tmp_path / "error.dcm"
    with pytest.raises(OutputError, match="does not fit"):
        write_parametric_map(np.zeros((2, 2, 2), np.float32), scan, path, derivation=LEVEL3)
    with pytest.raises(OutputError, match="not finite"):
        write_parametric_map(np.full(scan.shape, np.nan, np.float32), scan, path, derivation=LEVEL3)
    with pytest.raises(UsageError, match="needs a DICOM source"):
        write_parametric_map(np.zeros(nifti.shape, np.float32), nifti, path, derivation=LEVEL3)
    assert not path.exists()


def test_a_source_without_frame_of_reference_is_refused(tmp_path, make_series):
    def forget(image, index):
        del image.FrameOfReferenceUID

    make_series(tmp_path / "in", change=forget)
    scan = find_one(tmp_path / "in")
    with pytest.raises(OutputError, match="Frame of Reference"):
        write_parametric_map(np.zeros(scan.shape, np.float32), scan, tmp_path / "e.dcm", derivation=LEVEL3)


def test_a_perfect_reconstruction_has_a_map_too(tmp_path, make_series):
    make_series(tmp_path / "in")
    scan = find_one(tmp_path / "in")
    path = write_parametric_map(np.zeros(scan.shape, np.float32), scan, tmp_path / "e.dcm", derivation=LEVEL3)
    assert not pydicom.dcmread(path).pixel_array.any()
