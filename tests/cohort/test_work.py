"""What a worker does with one study, in this process."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.cli.faults import fault_of
from medrecon.cohort import work
from medrecon.cohort.heartbeat import Lease, Pulse
from medrecon.cohort.settings import Settings
from medrecon.cohort.studies import Study, plan_studies
from medrecon.cohort.work import Job, StudyOutOfMemory, run_study, share_cores
from medrecon.errors import OutputError

Make = Callable[..., np.ndarray]
MakeJob = Callable[[Settings], Job]
OneStudy = Callable[[str], Study]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_kept", {"threads": 1})
    monkeypatch.setattr(Pulse, "start", lambda self: self)  # its thread would end this process
    for name in work._THREADS:
        monkeypatch.setenv(name, "1")


def planted(bundle: str, slices: int, error: str) -> None:
    config = Path(bundle) / "configs" / "inference.yaml"
    whole = "tiny_parts.WholeInferer"
    fails = f"tiny_parts.Fails\n  slices: {slices}\n  error: {error}"
    config.write_text(config.read_text().replace(whole, fails))


@pytest.mark.parametrize("layers", ["coarse2", "coarse2,input"])
def test_a_series(
    layers: str, settings: Settings, make_job: MakeJob, one_study: OneStudy, make_ct: Make, tmp_path: Path
) -> None:
    make_ct(tmp_path / "ct")
    study, job = one_study("ct"), make_job(dataclasses.replace(settings, layers=layers))
    row = run_study(study, job, fault_of)
    assert (row["status"], row["scans"], row["results"]) == ("done", 1, len(layers.split(",")))
    assert row["voxels"] == 20 * 24 * 6
    for result in layers.split(","):
        assert len(list((job.output / study.id / result).glob("*.dcm"))) == 6
    (manifest,) = (job.output / study.id).glob("*manifest.json")
    assert "Doe" not in manifest.read_text() + (job.output / study.id / "study.json").read_text()


def test_a_zip_file_is_a_study(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_ct: Make, tmp_path: Path
) -> None:
    make_ct(tmp_path / "ct")
    (tmp_path / "in").mkdir()
    shutil.make_archive(str(tmp_path / "in" / "Doe^Jane"), "zip", tmp_path / "ct")
    assert [study.source for study in plan_studies(tmp_path / "in", tmp_path / "out").studies] == [
        "Doe^Jane.zip"
    ]
    study, job = one_study("in/Doe^Jane.zip"), make_job(settings)
    row = run_study(study, job, fault_of)
    assert (row["status"], row["scans"]) == ("done", 1)
    assert len(list((job.output / study.id / "coarse2").glob("*.dcm"))) == 6
    assert run_study(study, job, fault_of)["kept"], "nothing changed: nothing is done again"
    assert "Doe" not in json.dumps(row)
    (tmp_path / "in" / "Doe^Jane.zip").write_bytes(b"PK\x03\x04 broken")
    assert run_study(study, job, fault_of)["status"] == "failed"


def test_a_file_and_again(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_nifti: Make, tmp_path: Path
) -> None:
    make_nifti(tmp_path / "head.nii.gz")
    study, job = one_study("head.nii.gz"), make_job(settings)
    first = run_study(study, job, fault_of)
    assert first["status"] == "done"
    assert "kept" not in first
    result = job.output / study.id / "coarse2.nii.gz"
    time = result.stat().st_mtime_ns
    again = run_study(study, job, fault_of)
    assert again == {**first, "kept": True}
    assert result.stat().st_mtime_ns == time
    result.write_bytes(b"damaged")
    assert "kept" not in run_study(study, job, fault_of)
    assert result.stat().st_size > 100
    make_nifti(tmp_path / "head.nii.gz", seed=1)
    assert "kept" not in run_study(study, job, fault_of)


def test_the_model_is_loaded_once(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_nifti: Make, tmp_path: Path
) -> None:
    job = make_job(settings)
    networks = []
    for name in ("a.nii.gz", "b.nii.gz"):
        make_nifti(tmp_path / name)
        assert run_study(one_study(name), job, fault_of)["status"] == "done"
        networks.append(work._kept["network"][1])
    assert networks[0] is networks[1]
    other = make_job(dataclasses.replace(settings, layers="coarse4"))
    run_study(one_study("a.nii.gz"), other, fault_of)
    assert work._kept["network"][1] is not networks[0]


def test_a_bad_study_is_told_and_leaves_nothing(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_ct: Make, tmp_path: Path
) -> None:
    make_ct(tmp_path / "gap", leave_out=2)
    job = make_job(settings)
    for name in ("gap", "nowhere"):
        row = run_study(one_study(name), job, fault_of)
        assert (row["status"], row["exit_code"]) == ("failed", 3)
        assert row["reason"]
    assert [path.name for path in job.output.iterdir()] == [".medrecon-cohort"]
    assert list((job.lease.state / "making").iterdir()) == []


def test_the_good_scans_of_a_study_are_kept(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_ct: Make, tmp_path: Path
) -> None:
    make_ct(tmp_path / "study" / "a", description="whole", seed=1)
    make_ct(tmp_path / "study" / "b", description="gap", seed=2, leave_out=3)
    study, job = one_study("study"), make_job(settings)
    row = run_study(study, job, fault_of)
    assert (row["status"], row["scans"], row["failed_scans"], row["exit_code"]) == ("partial", 1, 1, 3)
    assert len(list((job.output / study.id).rglob("*.dcm"))) == 6
    assert run_study(study, job, fault_of)["kept"]


def test_memory_that_ran_out_is_worth_another_try(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_nifti: Make, tmp_path: Path
) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    planted(settings.bundle, 10, "memory")
    job = make_job(settings)
    with pytest.raises(StudyOutOfMemory) as raised:
        run_study(one_study("a.nii.gz"), job, fault_of)
    assert fault_of(raised.value).exit_code == 6
    assert list((job.lease.state / "making").iterdir()) == []


def test_a_bug_is_told_as_one(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_nifti: Make, tmp_path: Path
) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    planted(settings.bundle, 10, "bug")
    assert run_study(one_study("a.nii.gz"), make_job(settings), fault_of)["exit_code"] == 7


def test_nothing_is_done_for_a_run_that_is_over(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_nifti: Make, tmp_path: Path
) -> None:
    make_nifti(tmp_path / "a.nii.gz")
    job = make_job(settings)
    Lease.of_this_process(job.lease.state)  # the next run
    with pytest.raises(OutputError, match="is over"):
        run_study(one_study("a.nii.gz"), job, fault_of)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSL_WORKER_COUNT", "3")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert share_cores(12) == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert share_cores(2) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert share_cores(12) == 2


def test_records_hold_no_source_path(
    settings: Settings, make_job: MakeJob, one_study: OneStudy, make_nifti: Make, tmp_path: Path
) -> None:
    make_nifti(tmp_path / "Doe^Jane" / "x.nii.gz")
    study, job = one_study("Doe^Jane"), make_job(settings)
    run_study(study, job, fault_of)
    assert "Doe" not in json.dumps([p.read_text() for p in (job.output / study.id).glob("*.json")])
