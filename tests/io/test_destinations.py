"""Where outputs go, and what is refused before any work."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from medrecon.errors import OutputError, UsageError
from medrecon.io import find_one, plan_outputs
from medrecon.io.formats import format_named


@pytest.fixture
def ct(tmp_path: Path, make_series):
    make_series(tmp_path / "ct")
    return find_one(tmp_path / "ct")


@pytest.fixture
def mr(tmp_path: Path, make_nifti):
    make_nifti(tmp_path / "in" / "mr.nii.gz")
    return find_one(tmp_path / "in" / "mr.nii.gz")


def test_one_series_and_one_result_are_the_output_itself(ct, tmp_path):
    assert plan_outputs([ct], ["level3"], tmp_path / "out") == {(ct.key, "level3"): tmp_path / "out"}


def test_one_nifti_and_one_result(mr, tmp_path):
    file = tmp_path / "out.nii.gz"
    assert plan_outputs([mr], ["level3"], file) == {(mr.key, "level3"): file}
    folder = plan_outputs([mr], ["level3"], tmp_path / "out")
    assert folder == {(mr.key, "level3"): tmp_path / "out" / "level3.nii.gz"}


def test_a_series_goes_to_nifti_when_the_output_is_named_so(ct, tmp_path):
    file = tmp_path / "out.nii.gz"
    assert plan_outputs([ct], ["level3"], file) == {(ct.key, "level3"): file}


@pytest.mark.parametrize("name", ["out.mha", "out.nrrd", "OUT.MHA", "a.b.nrrd", "out.nii", "out.NII.GZ"])
def test_the_name_of_one_output_says_its_format(name, ct, mr, tmp_path):
    for scan in (ct, mr):
        assert list(plan_outputs([scan], ["level3"], tmp_path / name).values()) == [tmp_path / name]
    with pytest.raises(UsageError, match="2 outputs do not fit one"):
        plan_outputs([mr], ["level3", "level4"], tmp_path / name)
    with pytest.raises(UsageError, match="DICOM series is a folder"):
        plan_outputs([ct], ["level3"], tmp_path / name, output_format="dicom")
    for wanted in {"nifti", "nrrd", "mha"} - {format_named(name)}:
        with pytest.raises(UsageError, match=f"--format {wanted} does not suit"):
            plan_outputs([mr], ["level3"], tmp_path / name, output_format=wanted)


@pytest.mark.parametrize(("wanted", "ending"), [("nifti", ".nii.gz"), ("nrrd", ".nrrd"), ("mha", ".mha")])
def test_the_format_that_is_asked_for_names_the_files(wanted, ending, ct, mr, tmp_path):
    plan = plan_outputs([ct, mr], ["level3"], tmp_path / "out", output_format=wanted)
    assert all(path.name.endswith(f"_level3{ending}") for path in plan.values())
    plan = plan_outputs([mr], ["level3", "input"], tmp_path / "out", output_format=wanted)
    assert [path.name for path in plan.values()] == [f"level3{ending}", f"input{ending}"]


UNWRITTEN = (
    "mhd nhdr hdr img hdr.gz dcm ima png jpg jpeg tif tiff mgz mgh mnc h5 npy npz zip gz raw vtk vti json "
    "csv txt seg.mgh mha.gz nrrd.gz bmp dicom jp2 MHD PNG"
)


@pytest.mark.parametrize("ending", UNWRITTEN.split())
def test_an_ending_that_is_not_written_is_refused(ending, ct, mr, tmp_path):
    for scan in (ct, mr):
        with pytest.raises(UsageError, match=r"files are not written; name a folder, or a file as \.nii\.gz"):
            plan_outputs([scan], ["level3"], tmp_path / f"out.{ending}")
    with pytest.raises(UsageError, match="are not written"):
        plan_outputs([mr], ["level3", "level4"], tmp_path / f"out.{ending}")


@pytest.mark.parametrize(
    "name", ["out", "ct_level3", "out.1", "2026.11.29", "v1.2", "study.2024", "a.level3"]
)
def test_names_of_folders(name, ct, tmp_path):
    assert list(plan_outputs([ct], ["level3"], tmp_path / name).values()) == [tmp_path / name]
    (tmp_path / "there.png").mkdir()
    assert plan_outputs([ct], ["level3"], tmp_path / "there.png")


def test_several_results_make_a_folder_named_by_layers(ct, tmp_path):
    plan = plan_outputs([ct], ["level3", "level2+level4"], tmp_path / "out")
    assert list(plan.values()) == [tmp_path / "out" / "level3", tmp_path / "out" / "level2+level4"]


def test_names_of_several_scans_cannot_collide(ct, mr, tmp_path):
    twin = replace(ct, key="00000001")
    plan = plan_outputs([ct, twin, mr], ["level3", "input"], tmp_path / "out")
    assert len({str(path).lower() for path in plan.values()}) == 6
    assert all(path.parent == tmp_path / "out" for path in plan.values())
    assert plan[mr.key, "input"].name.endswith("_input.nii.gz")
    assert "Doe" not in " ".join(map(str, plan.values()))


def test_a_description_cannot_leave_the_folder(ct, mr, tmp_path):
    evil = replace(ct, description="../../../evil/..")
    plan = plan_outputs([evil, mr], ["a/../../b"], tmp_path / "out")
    assert all(path.resolve().parent == (tmp_path / "out").resolve() for path in plan.values())


def test_dicom_needs_a_dicom_source(mr, tmp_path):
    with pytest.raises(UsageError, match="--format dicom needs a DICOM source"):
        plan_outputs([mr], ["level3"], tmp_path / "out", output_format="dicom")


def test_other_usage_errors(ct, tmp_path):
    with pytest.raises(UsageError, match="unknown output format"):
        plan_outputs([ct], ["level3"], tmp_path / "out", output_format="png")
    with pytest.raises(UsageError, match="2 outputs do not fit one"):
        plan_outputs([ct], ["level3", "level4"], tmp_path / "out.nii.gz")
    with pytest.raises(UsageError, match="DICOM series is a folder"):
        plan_outputs([ct], ["level3"], tmp_path / "out.nii.gz", output_format="dicom")
    with pytest.raises(UsageError, match="given twice"):
        plan_outputs([ct, ct], ["level3"], tmp_path / "out")
    with pytest.raises(UsageError, match="nothing to write"):
        plan_outputs([], ["level3"], tmp_path / "out")


def test_a_class_that_has_no_derived_series_is_refused_for_dicom_only(tmp_path, make_series):
    make_series(tmp_path / "ct")
    odd = find_one(tmp_path / "ct")
    for file in odd.files:
        image = pydicom.dcmread(file)
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
        image.save_as(file)
    with pytest.raises(UsageError, match="no derived DICOM series can be made"):
        plan_outputs([odd], ["level3"], tmp_path / "out")
    assert plan_outputs([odd], ["level3"], tmp_path / "out.nii.gz")


@pytest.mark.parametrize("inside", ["ct", "ct/deeper", "ct/../ct", "ct/000.dcm"])
def test_an_output_in_the_input_is_refused(ct, tmp_path, inside):
    with pytest.raises(OutputError, match="the input"):
        plan_outputs([ct], ["level3"], tmp_path / inside)


def test_an_output_in_the_input_is_seen_through_a_link(ct, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "ct", target_is_directory=True)
    with pytest.raises(OutputError, match="the input"):
        plan_outputs([ct], ["level3"], tmp_path / "link" / "out", overwrite=True)


def test_the_source_file_is_not_overwritten_even_when_allowed(mr):
    with pytest.raises(OutputError, match="the input"):
        plan_outputs([mr], ["level3"], mr.path, overwrite=True)


def test_existing_outputs_are_refused_or_replaced(ct, mr, tmp_path):
    file = tmp_path / "out.nii.gz"
    file.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists already; .*--overwrite"):
        plan_outputs([mr], ["level3"], file)
    assert plan_outputs([mr], ["level3"], file, overwrite=True)
    folder = tmp_path / "papers"
    folder.mkdir()
    assert plan_outputs([ct], ["level3"], folder)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write \(thesis.txt\)"):
        plan_outputs([ct], ["level3"], folder, overwrite=True)


def test_a_file_where_a_folder_is_needed(ct, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for output in ("file/out", "file"):
        with pytest.raises(OutputError):
            plan_outputs([ct], ["level3", "level4"], tmp_path / output)


def test_impossible_names_are_output_errors(ct, tmp_path):
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(OutputError):
            plan_outputs([ct], ["level3"], tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights(ct, tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="no right to write"):
        plan_outputs([ct], ["level3"], tmp_path / "shut" / "out")


def test_nothing_is_made(ct, tmp_path):
    plan_outputs([ct], ["level3", "level4"], tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_folder_with_the_name_of_a_file_is_a_folder(mr, tmp_path):
    (tmp_path / "t1.nrrd").mkdir()
    plan = plan_outputs([mr], ["level3"], tmp_path / "t1.nrrd")
    assert list(plan.values()) == [tmp_path / "t1.nrrd" / "level3.nii.gz"]
