"""Affines from slice positions: exact where the grid is even, refused where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.ndimage import map_coordinates

from medrecon.io import ScanError, find_one, read_scan
from medrecon.io.geometry import check_affine, stack, straighten

Make = Callable[..., np.ndarray]
NAMES = [f"slice{k}" for k in range(40)]


def grid(count: int = 9, step: float = 2.5, angle: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of an oblique stack, its directions and its normal."""
    c, s = np.cos(angle), np.sin(angle)
    directions = np.array([[c, s, 0.0], [-s * c, c * c, s]])
    normal = np.cross(*directions)
    return np.array([11.0, -7, 3]) + np.arange(count)[:, None] * step * normal, directions, normal


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_affine_of_a_series(orientation: str, tmp_path: Path, make_series: Make) -> None:
    make_series(tmp_path / "ct", orientation=orientation)
    scan = find_one(tmp_path / "ct")
    for k, path in enumerate(scan.files):
        ds = pydicom.dcmread(path)
        row, column = np.reshape(ds.ImageOrientationPatient, (2, 3)).astype(float)
        for x, y in ((0, 0), (13, 0), (5, 11)):
            lps = np.array(ds.ImagePositionPatient, float) + row * 0.5 * x + column * 0.75 * y
            assert np.allclose(scan.affine @ [x, y, k, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-6)
    assert np.linalg.det(scan.affine[:3, :3]) > 0, "slices are sorted along the normal"
    assert scan.spacing == pytest.approx((0.5, 0.75, 2.5), abs=1e-6)


def test_order_follows_the_normal() -> None:
    positions, directions, _ = grid()
    shuffled = np.random.default_rng(0).permutation(9)
    found = stack(positions[shuffled], directions, (1, 1), 5, NAMES, "x")
    assert np.array_equal(shuffled[list(found.order)], np.arange(9))
    assert found.drift is None
    assert found.notes == ()


@pytest.mark.parametrize(("shift", "fine"), [(0.02, True), (0.045, True), (0.2, False), (1.2, False)])
def test_tolerance_of_spacing(shift: float, fine: bool) -> None:
    positions, directions, normal = grid()
    positions[4] += shift * normal
    if fine:
        assert "off an even grid" in "".join(stack(positions, directions, (1, 1), 5, NAMES, "x").notes)
    else:
        with pytest.raises(ScanError, match=r"after slice [45] of 9 \(slice[34]\)"):
            stack(positions, directions, (1, 1), 5, NAMES, "x")


def test_rounding_does_not_add_up_to_a_wrong_place() -> None:
    positions, directions, normal = grid(40)
    positions = positions[0] + np.round((positions - positions[0]) @ normal, 1)[:, None] * normal
    found = stack(positions, directions, (1, 1), 5, NAMES, "x")
    lps = np.diag([-1, -1, 1, 1.0]) @ found.affine
    places = (lps @ np.c_[np.zeros((40, 2)), np.arange(40), np.ones(40)].T).T[:, :3]
    assert np.abs(places - positions).max() < 0.06


def test_slowly_growing_distance_is_refused() -> None:
    positions, directions, normal = grid(30)
    positions += (0.004 * np.arange(30) ** 2)[:, None] * normal
    with pytest.raises(ScanError, match="uneven slice spacing"):
        stack(positions, directions, (1, 1), 5, NAMES, "x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_absurd_affines(bad: float) -> None:
    affine = np.eye(4)
    affine[0, 3] = bad
    with pytest.raises(ScanError, match="NaN, Inf or absurd"):
        check_affine(affine, "sform", "x")
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0]
    with pytest.raises(ScanError, match="singular"):
        check_affine(affine, "sform", "x")


def test_tilted_stack_is_resampled_where_it_is(tmp_path: Path, make_series: Make) -> None:
    shape, tilt = (30, 26, 9), 0.6

    def smooth(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return 500 + 200 * np.sin(x / 4) + 150 * np.cos(y / 3) + 12 * z

    def place(ds: pydicom.Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-5.0, -8.0 + tilt * k, 2.5 * k]
        x, y = np.meshgrid(-5 + 0.5 * np.arange(30), -8 + tilt * k + 0.75 * np.arange(26), indexing="xy")
        ds.PixelData = np.rint(smooth(x, y, np.full_like(x, 2.5 * k))).astype("<u2").tobytes()

    make_series(tmp_path / "ct", shape=shape, change=place, intercept=0)
    with pytest.raises(ScanError, match="--resample"):
        find_one(tmp_path / "ct")
    scan = find_one(tmp_path / "ct", resample=True)
    values = read_scan(scan)
    assert "resampled linearly" in "".join(scan.notes)
    assert values.shape == scan.shape
    assert scan.shape[0] == 30
    assert scan.shape[1] == 26 + 7
    directions = scan.affine[:3, :3] / scan.spacing
    assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    for k in range(9):
        world = np.array([[-4.0, -1.5, 2.5 * k], [3.3, 2.2, 2.5 * k], [1.0, 5.0, 2.5 * k]])
        index = np.linalg.inv(scan.affine) @ np.c_[world * [-1, -1, 1], np.ones(3)].T
        found = map_coordinates(values.astype(float), index[:3], order=1)
        assert np.allclose(found, smooth(*world.T), atol=6)


def tilted(shear: float) -> np.ndarray:
    """An oblique, mirrored affine whose third axis leans towards the second by the sine `shear`."""
    _, directions, normal = grid()
    axes = np.stack([-directions[0], directions[1], normal + shear * directions[1]], axis=1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * (0.7, 0.8, 2.5), (-20, 30, 4)
    return affine


def test_rounding_is_no_shear() -> None:
    affine = tilted(5e-6)
    straight, said = straighten(affine, (30, 20, 10), "sform", "a.nii")
    assert np.array_equal(straight, affine)
    assert not said


def test_a_slight_shear_is_made_straight_about_the_centre() -> None:
    shape, affine = (30, 20, 10), tilted(4e-3)
    straight, (said,) = straighten(affine, shape, "sform", "a.nii")
    axes = straight[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(-1), "a mirrored grid stays one"
    centre = [*(np.array(shape) - 1) / 2, 1]
    assert np.allclose(straight @ centre, affine @ centre, atol=1e-12)
    corners = [np.array([x, y, z, 1]) for x in (0, 29) for y in (0, 19) for z in (0, 9)]
    moved = max(float(np.linalg.norm((straight - affine) @ corner)) for corner in corners)
    assert 0.01 < moved < 0.07
    assert f"corners move by {moved:.2g} mm" in said


def test_more_shear_than_a_tenth_of_a_voxel_is_refused() -> None:
    with pytest.raises(ScanError, match=r"a\.nii: the sform is sheared: .*; resample it"):
        straighten(tilted(0.02), (30, 20, 10), "sform", "a.nii")
