"""Derived series as 3D Slicer's own reader sees them (slicer-core, in a Python of its own)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecon.io import DicomSeriesWriter, Scan, ScanError, find_scans, read_scan

pytestmark = pytest.mark.slow

JOB = Path(__file__).with_name("slicer_geometry.py")
VOLUMES = 4
"""Volumes of a series that are looked for."""


@pytest.fixture(scope="module")
def slicer() -> str:
    """A Python that has slicer-core and pydicom."""
    python = os.environ.get("MEDRECON_SLICER_PYTHON")
    if not python:
        pytest.skip("no 3D Slicer here: set MEDRECON_SLICER_PYTHON to a Python with slicer-core and pydicom")
    return python


def seen(slicer: str, folders: Sequence[Path], save: Path) -> list[tuple[dict[str, Any], np.ndarray]]:
    """What Slicer's reader makes of each series: its report and the voxels (I, J, K)."""
    save.mkdir()
    run = subprocess.run(
        [slicer, str(JOB), *map(str, folders), "--save", str(save)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    reports = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, run.stdout + run.stderr
    return [(report, np.load(save / f"{index}.npy")) for index, report in enumerate(reports)]


def readable(root: Path) -> list[Scan]:
    """Each DICOM scan of a folder, each volume of those that hold several."""
    scans: dict[str, Scan] = {}
    for volume in (None, *range(VOLUMES)):
        try:
            found = find_scans(root, volume=volume).scans
        except ScanError:
            continue
        scans |= {scan.key: scan for scan in found if scan.format == "dicom"}
    return list(scans.values())


def copy(scan: Scan, target: Path, values: np.ndarray | None = None) -> tuple[Path, np.ndarray]:
    """The scan written as a derived series, and what was written."""
    values = read_scan(scan) if values is None else values
    writer = DicomSeriesWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_scan(scan)
    writer.write(target)
    return target, values


def check(report: dict[str, Any], voxels: np.ndarray, scan: Scan, values: np.ndarray) -> list[str]:
    """What differs from medrecon's reading.

    The depth of a single image is not compared: GDCM takes SpacingBetweenSlices or else 1 mm, medrecon the
    SliceThickness. For fractional slopes GDCM gives float64, medrecon float32 for sources of 16 bits.
    """
    wrong = []
    if report["said"]:
        wrong.append(f"complains: {report['said']}")
    off = np.abs(np.asarray(report["ijk_to_ras"]) - scan.affine)
    if scan.shape[2] == 1:
        off[:, 2] = 0
    if not off.max() <= 1e-3:
        wrong.append(f"geometry is off by {off.max():g} mm")
    if voxels.shape != values.shape:
        wrong.append(f"shape {voxels.shape} instead of {values.shape}")
    elif not np.array_equal(voxels.astype(values.dtype), values):
        wrong.append(f"voxels are off by {np.abs(voxels.astype(np.float64) - values).max():g}")
    if not report["equal"]:
        wrong.append("voxels differ from pydicom's")
    return wrong


def test_oblique_series(slicer: str, make_ct: Callable[..., np.ndarray], tmp_path: Path) -> None:
    make_ct(tmp_path / "ct")
    [scan] = readable(tmp_path / "ct")
    target, values = copy(scan, tmp_path / "derived")
    [(report, voxels)] = seen(slicer, [target], tmp_path / "seen")
    assert not check(report, voxels, scan, values)
    assert check(report, voxels, scan, values[::-1]), "a flip must show"


@pytest.mark.real_data
@pytest.mark.parametrize("part", ["real", "edge"])
def test_every_readable_series(part: str, slicer: str, shared_dir: Path, tmp_path: Path) -> None:
    folders = [p for p in sorted((shared_dir / "data" / part).iterdir()) if p.is_dir()]
    scans = [(folder.name, scan) for folder in folders for scan in readable(folder)]
    assert len(scans) >= 5
    copies = [copy(scan, tmp_path / f"{index}") for index, (_, scan) in enumerate(scans)]
    results = seen(slicer, [target for target, _ in copies], tmp_path / "seen")
    wrong = {
        f"{name} {scan.key}": fault
        for (name, scan), (_, values), (report, voxels) in zip(scans, copies, results, strict=True)
        if (fault := check(report, voxels, scan, values))
    }
    assert not wrong
