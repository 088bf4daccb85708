"""Several volumes in one series: listed, chosen by number, never mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medrecon.io import ScanError, find_one, find_scans, read_scan

Make = Callable[..., np.ndarray]


def several(tmp_path: Path, make_series: Make, marks: list[dict[str, object]]) -> list[np.ndarray]:
    """One series with a volume per mark, shuffled file names."""
    volumes = []
    series = generate_uid()
    (tmp_path / "mr").mkdir()
    for v, mark in enumerate(marks):
        part = tmp_path / f"part{v}"
        volumes.append(make_series(part, "MR", intercept=0, seed=v))
        for k, path in enumerate(sorted(part.iterdir())):
            ds = pydicom.dcmread(path)
            ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.StudyInstanceUID = series, "1.2.3", "1.2.4"
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.InstanceNumber = str(int(ds.InstanceNumber) + 5 * v)
            for name, value in mark.items():
                setattr(ds, name, value)
            ds.save_as(tmp_path / "mr" / f"{(k * 7 + v * 13) % 101:03d}.dcm")
            path.unlink()
        part.rmdir()
    return volumes


@pytest.mark.parametrize(
    ("marks", "name"),
    [
        ([{"EchoTime": "12", "EchoNumbers": "1"}, {"EchoTime": "30", "EchoNumbers": "2"}], "EchoNumbers"),
        ([{"EchoTime": "4.6"}, {"EchoTime": "12.4"}, {"EchoTime": "30"}], "EchoTime"),
        ([{"TemporalPositionIdentifier": str(t)} for t in range(1, 12)], "TemporalPositionIdentifier"),
        ([{"ImageType": ["ORIGINAL", "PRIMARY", t]} for t in "MP"], "ImageType"),
        ([{"AcquisitionNumber": "1"}, {"AcquisitionNumber": "2"}], "AcquisitionNumber"),
        ([{}, {}], "Instance Numbers"),
        ([{"EchoTime": "10"}, {"EchoTime": "10"}, {"EchoTime": "30"}], "EchoTime 10, Instance Numbers"),
    ],
)
def test_each_volume_is_read_alone(marks: list, name: str, tmp_path: Path, make_series: Make) -> None:
    volumes = several(tmp_path, make_series, marks)
    with pytest.raises(ScanError, match=rf"holds {len(marks)} volumes .*\({name} .*--volume 0 \.\.\. "):
        find_scans(tmp_path / "mr")
    keys = set()
    for v, true in enumerate(volumes):
        scan = find_one(tmp_path / "mr", volume=v)
        assert scan.volume == v
        assert len(scan.files) == 5
        left_out = find_scans(tmp_path / "mr", volume=v).left_out
        assert len(left_out) == 5 * (len(marks) - 1)
        assert {item.reason for item in left_out} == {"slice of another volume of the series"}
        assert np.array_equal(read_scan(scan), true), v
        keys.add(scan.key)
        assert find_one(tmp_path / "mr", series=scan.key, volume=v) == scan
    assert len(keys) == len(marks)
    with pytest.raises(ScanError, match="holds"):
        find_one(tmp_path / "mr", volume=len(marks))


def test_a_slice_missing_in_one_volume_is_refused(tmp_path: Path, make_series: Make) -> None:
    several(tmp_path, make_series, [{"EchoNumbers": "1"}, {"EchoNumbers": "2"}])
    victim = next(
        p
        for p in sorted((tmp_path / "mr").iterdir())
        if (ds := pydicom.dcmread(p)).EchoNumbers == 2 and int(ds.InstanceNumber) == 8
    )
    victim.unlink()
    assert find_one(tmp_path / "mr", volume=0).shape[2] == 5
    with pytest.raises(ScanError, match="missing after slice"):
        find_one(tmp_path / "mr", volume=1)


def test_without_marks_and_numbers_it_is_refused(tmp_path: Path, make_series: Make) -> None:
    several(tmp_path, make_series, [{"InstanceNumber": None}, {"InstanceNumber": None}])
    with pytest.raises(ScanError, match="different slices at the same position"):
        find_one(tmp_path / "mr", volume=0)


def test_a_volume_of_a_single_one(tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct")
    assert find_one(tmp_path / "ct", volume=0).volume is None
    with pytest.raises(ScanError, match="no volume 1"):
        find_one(tmp_path / "ct", volume=1)
