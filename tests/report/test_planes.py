"""Slices stand upright, patient's right on the left, whatever way the voxel axes run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medrecon.report.planes import make_view

# a phantom in patient space: a marker towards right-anterior-superior, in a body of 20 x 16 x 12 voxels
BODY = (20, 16, 12)


def phantom(order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The phantom with voxel axis i along RAS axis order[i], in the direction signs[i]; and its affine."""
    ras = np.zeros(BODY)
    ras[15:18, 12:14, 9:11] = 1
    volume = np.transpose(ras, order)[tuple(slice(None, None, s) for s in signs)]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (towards, sign) in enumerate(zip(order, signs, strict=True)):
        affine[towards, axis] = sign * (1.0, 2.0, 3.0)[towards]
    turn = np.deg2rad(12)
    tilt = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine[:3, :3] = tilt @ affine[:3, :3]
    return volume, affine


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("signs", [*itertools.product((1, -1), repeat=3)])
def test_marker_is_where_a_radiologist_looks(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume, affine = phantom(order, signs)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    at = [int(n) for n in np.argwhere(volume).mean(axis=0).round()]
    view = make_view(volume, spacing, affine, at=at)
    for plane, (columns, rows), (across, up) in (
        ("axial", (20, 16), (1.0, 2.0)),
        ("coronal", (20, 12), (1.0, 3.0)),
        ("sagittal", (16, 12), (2.0, 3.0)),
    ):
        image = view.cut(volume, plane)
        assert image.shape == (rows, columns)
        row, column = np.argwhere(image).mean(axis=0)
        assert row < rows / 2, f"{plane}: anterior or superior is up"
        assert column < columns / 2, f"{plane}: the patient's right, or front, is on the left"
        assert view.size(plane) == pytest.approx((columns * across, rows * up))


def test_axial_series_is_assumed_without_an_affine() -> None:
    volume = np.arange(24).reshape(2, 3, 4)
    view = make_view(volume, (1, 1, 1), at=(1, 2, 3))
    np.testing.assert_array_equal(view.cut(volume, "axial"), volume[:, :, 3].T)
    np.testing.assert_array_equal(view.cut(volume, "coronal"), volume[:, 2, ::-1].T)


def test_view_is_cut_to_the_body() -> None:
    volume = np.full((100, 80, 60), -1000.0)
    volume[30:60, 20:50, 10:40] = 40
    view = make_view(volume, (1, 1, 1), background=-500)
    assert view.box == ((28, 62), (19, 51), (9, 41))
    assert view.at == (44, 34, 24)
    empty = make_view(np.full((5, 5, 5), -1000.0), (1, 1, 1), background=-500)
    assert empty.box == ((0, 5),) * 3
