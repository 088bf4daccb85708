"""Shapes on the grid: volumes as the formulas say, on any voxel size and orientation."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.phantoms.canvas import Canvas, coverage, footprint, inner, near
from medrecon.phantoms.generator import random_rotation


def canvas_of(spacing, seed=0, shape=(40, 44, 36), degrees=25.0, warp=0.0):
    rng = np.random.default_rng(seed)
    return Canvas(shape, spacing, random_rotation(rng, degrees), (5.0, -3.0, 8.0), rng, warp=warp)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.1, 3.0), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_partial_volumes_add_up(spacing, seed):
    canvas = canvas_of(spacing, seed)
    voxel = np.prod(spacing)
    ball = canvas.ellipsoid((5, -3, 8), (11, 11, 11))
    assert coverage(ball[1]).sum() * voxel == pytest.approx(4 / 3 * np.pi * 11**3, rel=0.03)
    egg = canvas.ellipsoid((5, -3, 8), (12, 9, 7))
    assert coverage(egg[1]).sum() * voxel == pytest.approx(4 / 3 * np.pi * 12 * 9 * 7, rel=0.04)
    tube = canvas.tube((0, -3, 8), (10, -3, 8), 5.0)
    assert coverage(tube[1]).sum() * voxel == pytest.approx(np.pi * (25 * 10 + 4 / 3 * 125), rel=0.07)


def test_a_thin_tube_keeps_most_of_its_volume_on_thick_slices():
    canvas = canvas_of((0.7, 0.7, 3.0))
    thin = canvas.tube((0, -8, 3), (8, 4, 14), 1.2)
    length = np.linalg.norm([8, 12, 11])
    expected = np.pi * (1.44 * length + 4 / 3 * 1.2**3)
    assert coverage(thin[1]).sum() * 0.7 * 0.7 * 3.0 == pytest.approx(expected, rel=0.35)


def test_points_and_grid_agree():
    canvas = canvas_of((0.8, 1.1, 3.0), seed=5)
    index = (7, 30, 20)
    point = canvas.origin + canvas.directions @ np.array(index)
    np.testing.assert_allclose([p[index] for p in canvas.points], point, atol=1e-3)
    box = canvas.box(point, 0.1)
    assert all(s.start <= i < s.stop for s, i in zip(box, index, strict=True))


@pytest.mark.parametrize("warp", [0.0, 3.0])
def test_nothing_of_a_shape_lies_outside_its_box(warp):
    for seed in range(5):
        canvas = canvas_of((1.5, 1.5, 1.5), seed, warp=warp)
        box, f = canvas.ellipsoid((8, 0, 4), (9, 6, 7))
        x, y, z = canvas.points
        everywhere = np.sqrt(((x - 8) / 9) ** 2 + (y / 6) ** 2 + ((z - 4) / 7) ** 2) < 1
        assert everywhere.sum() == (f < 0).sum()
        assert everywhere[box].sum() == everywhere.sum()


def test_off_the_grid_is_none():
    canvas = canvas_of((1.0, 1.0, 1.0))
    assert canvas.box((500, 0, 0), 10) is None
    assert canvas.tube((500, 0, 0), (510, 0, 0), 3) is None
    assert canvas.ellipsoid((0, 0, -400), (5, 5, 5)) is None


def test_near_finds_the_smallest_box():
    f = np.full((10, 11, 12), 5.0, np.float32)
    assert near(f, 1.0) is None
    f[3:5, 6, 11] = 0
    assert near(f, 1.0) == (slice(2, 6), slice(5, 8), slice(10, 12))
    assert inner((slice(10, 20), slice(0, 11), slice(5, 17)), near(f, 1.0)) == (
        slice(12, 16),
        slice(5, 8),
        slice(15, 17),
    )


def test_footprint_is_the_sum_of_the_differences():
    x, y, z = np.meshgrid(np.arange(6.0), np.arange(5.0), np.arange(4.0), indexing="ij")
    f = (2 * x - 3 * y + 0.5 * z).astype(np.float32)
    np.testing.assert_allclose(footprint(f), 5.5, atol=1e-3)
    np.testing.assert_allclose(footprint(f[:, :, :1]), 5.0, atol=1e-3)
