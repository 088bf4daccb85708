"""Frames of reference: one for each slice is a de-identifier's work, a few are a mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medrecon.io import DicomSeriesWriter, ScanError, find_one, read_scan

from .made_series import planes, write_slices


def series(folder: Path, count: int, groups: int) -> None:
    uids = [generate_uid() for _ in range(groups)]
    write_slices(
        folder,
        [{"z": 2 * k, "value": k, "FrameOfReferenceUID": uids[k % groups]} for k in range(count)],
        "CT",
    )


@pytest.mark.parametrize("count", [4, 40])
def test_one_for_each_slice_is_read_and_said(count: int, tmp_path: Path) -> None:
    series(tmp_path / "ct", count, count)
    scan = find_one(tmp_path / "ct")
    assert planes(scan) == list(range(count))
    assert (
        f"{count} Frame of Reference UIDs in {count} images of one series: one is made for all" in scan.notes
    )


def test_the_derived_series_has_one(tmp_path: Path) -> None:
    series(tmp_path / "ct", 12, 12)
    scan = find_one(tmp_path / "ct")
    for out in ("one", "two"):
        writer = DicomSeriesWriter()
        writer.set_data_array(read_scan(scan), channel_dim=None)
        writer.set_scan(scan)
        writer.write(tmp_path / out)
    made = [pydicom.dcmread(p) for out in ("one", "two") for p in sorted((tmp_path / out).iterdir())]
    uids = {image.FrameOfReferenceUID for image in made}
    assert len(uids) == 1, "one for all slices, and for all that is derived from the series"
    assert not uids & {pydicom.dcmread(p).FrameOfReferenceUID for p in (tmp_path / "ct").iterdir()}
    assert uids.pop().is_valid
    assert np.array_equal(read_scan(find_one(tmp_path / "one")), read_scan(scan))


@pytest.mark.parametrize(("count", "groups"), [(12, 2), (12, 3), (3, 3), (12, 6), (275, 100)])
def test_a_few_are_refused_unless_accepted(count: int, groups: int, tmp_path: Path) -> None:
    series(tmp_path / "ct", count, groups)
    with pytest.raises(ScanError, match=r"differ in FrameOfReferenceUID: .*--accept frames"):
        find_one(tmp_path / "ct")
    scan = find_one(tmp_path / "ct", accept=["frames"])
    assert scan.shape[2] == count
    assert scan.recipe.frame_of_reference


def test_two_studies_are_refused(tmp_path: Path) -> None:
    slices = [
        {"z": 2 * k, "FrameOfReferenceUID": generate_uid(), "StudyInstanceUID": f"1.2.{k // 6}"}
        for k in range(12)
    ]
    write_slices(tmp_path / "ct", slices, "CT")
    with pytest.raises(ScanError, match="differ in StudyInstanceUID"):
        find_one(tmp_path / "ct", accept=["frames"])
