"""Grids that differ are told apart, in words that name what differs."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.evaluation import compare_geometry

SHAPE = (64, 60, 40)


def affine(spacing: tuple[float, float, float] = (0.8, 0.8, 2.5), turn: float = 0.2) -> np.ndarray:
    c, s = np.cos(turn), np.sin(turn)
    grid = np.eye(4)
    grid[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * spacing
    grid[:3, 3] = -100, -80, 30
    return grid


def test_same_grid() -> None:
    assert compare_geometry(affine(), SHAPE, affine().astype(np.float32), SHAPE) == []


def shifted(by: float) -> np.ndarray:
    moved = affine()
    moved[0, 3] += by
    return moved


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (affine((0.8, 0.8, 2.6)), "voxel spacing 0.8 x 0.8 x 2.5 against 0.8 x 0.8 x 2.6 mm"),
        (affine(turn=0.21), "axes turned by up to 0.573 degrees"),
        (shifted(0.01), "first voxel 0.01 mm away"),
        (affine() @ np.diag([1, 1, -1, 1]), "axes run to RAS against RAI"),
        (affine()[:, [1, 0, 2, 3]], "axes run to RAS against ARS"),
    ],
)
def test_what_differs_is_named(other: np.ndarray, words: str) -> None:
    found = compare_geometry(affine(), SHAPE, other, SHAPE)
    assert any(words in line for line in found), found
    assert "corners up to" in found[-1]


def test_shapes() -> None:
    assert compare_geometry(affine(), SHAPE, affine(), (64, 60, 39)) == [
        "shape 64 x 60 x 40 against 64 x 60 x 39 voxels"
    ]


@pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_broken_affines(broken: np.ndarray) -> None:
    assert compare_geometry(affine(), SHAPE, broken, SHAPE) == [
        "the second volume's affine is not that of a grid"
    ]
