"""Rounded positions and axes are read, uneven distances are told and resampled when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medrecon.io import DicomSeriesWriter, ScanError, find_one, read_scan
from medrecon.io.distances import even_grid, half_unit, places_of

from .made_series import SIDE, write_slices


def oblique(degrees: float, turn: float = 20) -> tuple[np.ndarray, np.ndarray]:
    """Row and column directions of a plane turned about two axes, and its normal."""
    a, b = np.deg2rad(degrees), np.deg2rad(turn)
    row = np.array([np.cos(b), np.sin(b), 0])
    column = np.array([-np.sin(b) * np.cos(a), np.cos(b) * np.cos(a), -np.sin(a)])
    return np.stack([row, column]), np.cross(row, column)


@pytest.mark.parametrize("decimals", [2, 3, 4, 6])
@pytest.mark.parametrize("count", [160, pytest.param(300, marks=pytest.mark.slow)])
def test_axes_of_few_digits(count: int, decimals: int, tmp_path: Path) -> None:
    """The slices lie where their positions say; the axes are at right angles to their line."""
    directions, normal = oblique(13.3)
    points = np.array([-90.5, -120.25, 33.125]) + np.arange(count)[:, None] * normal
    text = [f"{v:.{decimals}f}" for v in directions.ravel()]
    write_slices(
        tmp_path / "mr",
        [{"ImagePositionPatient": [f"{v:.4f}" for v in p], "ImageOrientationPatient": text} for p in points],
    )
    scan = find_one(tmp_path / "mr")
    lps = np.diag([-1, -1, 1, 1.0]) @ scan.affine
    ends = [(lps @ [0, 0, k, 1])[:3] for k in (0, count - 1)]
    # where the axes are exact enough, the line of the slices is theirs, to a tenth of a millimetre
    assert np.abs(np.array(ends) - points[[0, -1]]).max() < (0.11 if decimals > 2 else 1e-3)
    axes = scan.affine[:3, :3] / scan.spacing
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert np.allclose(lps[:3, 0] / 0.5, directions[0], atol=2 * 10.0**-decimals)


@pytest.mark.parametrize(
    ("step", "decimals"), [(0.625, 1), (0.4, 1), (1.25, 1), (2.5, 0), (0.625, 2), (3.3333, 1)]
)
def test_positions_of_few_digits(step: float, decimals: int, tmp_path: Path) -> None:
    count = 60
    write_slices(
        tmp_path / "ct",
        [
            {"ImagePositionPatient": ["-10.5", "-20.5", f"{3.1 + step * k:.{decimals}f}"]}
            for k in range(count)
        ],
        "CT",
    )
    if decimals == 0:  # whole millimetres: x and y show that digits are there, so these would be exact
        with pytest.raises(ScanError, match=r"uneven|missing"):
            find_one(tmp_path / "ct")
        return
    scan = find_one(tmp_path / "ct")
    assert scan.spacing[2] == pytest.approx(step, abs=0.1 / (count - 1))


@pytest.mark.parametrize("shift", [0.3, 0.6])
def test_a_slice_out_of_place_among_rounded_ones_is_refused(shift: float, tmp_path: Path) -> None:
    places = [0.6 * k + (shift if k == 20 else 0) for k in range(40)]
    write_slices(
        tmp_path / "ct", [{"ImagePositionPatient": ["-10.5", "-20.5", f"{z:.1f}"]} for z in places], "CT"
    )
    with pytest.raises(ScanError):
        find_one(tmp_path / "ct")


def test_a_real_shear_is_no_rounding(tmp_path: Path) -> None:
    write_slices(
        tmp_path / "ct", [{"ImagePositionPatient": [0, f"{0.02 * k:.3f}", k]} for k in range(100)], "CT"
    )
    with pytest.raises(
        ScanError,
        match=r"gantry tilt\): 0\.020 mm in plane from slice to slice, 1\.98 mm in all; use --resample",
    ):
        find_one(tmp_path / "ct")


CHANGES = {
    "4 and 7 mm": (
        [4.0] * 13 + [7.0] * 14,
        r"distance changes after slice 14 of 28 \(IM0013\.dcm\): 13 of 4\.000 mm, then 14 of 7",
    ),
    "5 and 10 mm": (
        [5.0] * 10 + [10.0] * 6,
        r"distance changes after slice 11 of 17 .*: 10 of 5\.000 mm, then 6 of 10\.000",
    ),
    "thin in the middle": (
        [8.0] * 4 + [3.0] * 9 + [8.0] * 4,
        r"4 of 8\.000 mm, then 9 of 3\.000 mm, then 4 of 8\.000 mm",
    ),
    "one missing": (
        [3.0] * 5 + [6.0] + [3.0] * 5,
        r"1 slice\(s\) missing after slice 6 of 12 \(IM0005\.dcm\): 6\.000 mm",
    ),
    "two gaps": ([3.0] * 5 + [9.0] + [3.0] * 5 + [6.0] + [3.0] * 4, r"2 slice\(s\) missing .*1 more places"),
    "uneven": ([3.0, 3.4, 2.8, 3.1, 3.0, 2.7, 3.2], r"uneven slice spacing"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_uneven_distances_are_told_and_resampled_when_asked(change: str, tmp_path: Path) -> None:
    gaps, message = CHANGES[change]
    heights = np.concatenate([[0.0], np.cumsum(gaps)]) - 40
    ramp = [{"z": z, "value": round(1000 + 10 * z)} for z in heights]
    write_slices(tmp_path / "ct", ramp, "CT")
    with pytest.raises(ScanError, match=message + r".*use --resample") as caught:
        find_one(tmp_path / "ct")
    assert "\n" not in str(caught.value)
    scan = find_one(tmp_path / "ct", resample=True)
    assert any(
        f"{len(heights)} slices resampled linearly onto {scan.shape[2]}" in note for note in scan.notes
    )
    assert min(gaps) * 0.5 <= scan.spacing[2] <= min(gaps) + 1e-6
    values = read_scan(scan)
    place = scan.affine[2, 3] + scan.spacing[2] * np.arange(scan.shape[2])
    assert place[[0, -1]] == pytest.approx(heights[[0, -1]])
    assert np.abs(values[0, 0] - (1000 + 10 * place)).max() < 1.1, "linear between slices"
    writer = DicomSeriesWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_scan(scan)
    writer.write(tmp_path / "out")
    back = find_one(tmp_path / "out")
    assert np.array_equal(read_scan(back), values)
    assert np.allclose(back.affine, scan.affine, atol=1e-3)
    numbers = [pydicom.dcmread(p).SOPInstanceUID for p in (tmp_path / "out").iterdir()]
    assert len(set(numbers)) == scan.shape[2]


def test_tilted_and_uneven_at_once(tmp_path: Path) -> None:
    """A ramp along y comes out where it is, though slices are tilted and of two distances."""
    heights, tilt = np.concatenate([np.arange(6) * 2.0, 10 + np.arange(1, 5) * 5.0]), 0.05
    slices = []
    for z in heights:
        y = -20 + tilt * z + 0.5 * np.arange(SIDE)
        plane = np.rint(2000 + 20 * y[:, None] + np.zeros(SIDE)).astype("<u2")
        slices.append({"ImagePositionPatient": [0, f"{-20 + tilt * z:.4f}", z], "PixelData": plane.tobytes()})
    write_slices(tmp_path / "ct", slices, "CT")
    scan = find_one(tmp_path / "ct", resample=True)
    values = read_scan(scan).astype(float)
    assert scan.spacing[2] == pytest.approx(2, abs=0.1)
    lps = np.diag([-1, -1, 1, 1.0]) @ scan.affine
    checked = 0
    for j in range(scan.shape[1]):
        for k in range(scan.shape[2]):
            y, z = (lps @ [0, j, k, 1])[1:3]
            if -20 + tilt * (z + 5) <= y <= -20 + tilt * (z - 5) + 0.5 * (SIDE - 1):
                assert abs(values[3, j, k] - (2000 + 20 * y)) < 1.6
                checked += 1
    assert checked > 3 * scan.shape[2]


def test_an_even_grid_must_not_swell() -> None:
    along = np.array([0.0, 0.01, 5, 10, 15])
    with pytest.raises(ScanError, match="would need"):
        even_grid(along, Path("x"))


def test_two_slabs_far_apart_become_an_even_grid() -> None:
    along = np.array([0.0, 2, 4, 6, 150, 152, 154, 156])
    places = even_grid(along, Path("x"))
    assert len(places) == 79
    assert places[[0, 3, 75, 78]].tolist() == [0, 3, 4, 7]


@pytest.mark.parametrize(
    ("texts", "half"),
    [
        (["1.5", "2"], 0.05),
        (["0.25\\1"], 0.005),
        (["1\\0\\0"], 0),
        (["0.123456"], 0),
        (["1.5e-1"], 0.005),
        (["1.000"], 0.0005),
    ],
)
def test_half_of_the_last_digit(texts: list[str], half: float) -> None:
    assert half_unit(texts) == pytest.approx(half)


def test_positions_that_are_nearly_the_same() -> None:
    rng = np.random.default_rng(0)
    there = np.repeat(np.arange(20) * 2.9, 3) + rng.uniform(-0.02, 0.02, 60)
    order = rng.permutation(60)
    assert np.array_equal(places_of(there[order]), np.repeat(np.arange(20), 3)[order])
    assert np.array_equal(places_of(np.arange(50) * 0.05), np.arange(50)), "a fine grid is no jitter"
    assert np.array_equal(places_of(np.zeros(4)), np.zeros(4))
