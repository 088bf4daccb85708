"""The scanner: what its matrices and noise do to an image."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.phantoms.acquisition import acquire_ct, acquire_mr, blur_matrix, fourier_matrix, store_mr
from medrecon.phantoms.tissues import TISSUES, ct_palette, mr_palette


def test_matrices_keep_a_constant():
    for matrix in (blur_matrix(30, 0.7), blur_matrix(30, 0.3, 0.8), fourier_matrix(30, 0.6, 0.3)):
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)


def test_truncation_removes_what_lies_above_the_cutoff():
    matrix = fourier_matrix(128, 0.6, 0.1)
    grid = np.arange(128)
    for frequency, kept in ((0.3, True), (0.85, False)):
        wave = np.cos(np.pi * frequency * grid).astype(np.float32)
        middle = (matrix @ wave)[32:96]
        ratio = np.std(middle) / np.std(wave[32:96])
        assert (ratio > 0.9) if kept else (ratio < 0.1)


def test_truncation_rings_at_an_edge():
    step = (np.arange(128) > 64).astype(np.float32)
    assert (fourier_matrix(128, 0.6, 0.05) @ step).max() > 1.05
    assert (blur_matrix(128, 0.8) @ step).max() < 1.001
    assert (blur_matrix(128, 0.4, 0.8) @ step).max() > 1.02


def test_ct_is_whole_and_in_range():
    outline = np.full((40, 40, 12), -20, np.float32)
    for seed in range(10):
        image = np.full((40, 40, 12), 40.0, np.float32)
        image[10:20] = 5000
        image[25:] = -1000
        out = acquire_ct(image, outline, np.random.default_rng(seed), np.ones(3))
        assert np.array_equal(out, np.rint(out))
        assert out.max() <= 3071
        assert set(np.unique(out[out < -1024])) <= {-2000, -2048, -3024}


def test_mr_background_is_rician():
    for seed in range(6):
        out = acquire_mr(np.zeros((40, 40, 16), np.float32), np.random.default_rng(seed), np.ones(3))
        assert out.min() >= 0
        # of a Rayleigh distribution: mean over standard deviation is sqrt(pi / (4 - pi)) = 1.913
        assert out.mean() / out.std() == pytest.approx(1.913, rel=0.06)


def test_mr_is_stored_as_whole_numbers():
    rng = np.random.default_rng(0)
    image = rng.random((30, 30, 30), dtype=np.float32)
    tops = set()
    for _ in range(30):
        out = store_mr(image, rng)
        assert np.array_equal(out, np.rint(out))
        assert out.min() >= 0
        assert out.max() <= 4095
        tops.add(out.max() <= 255)
    assert tops == {True, False}


def test_ct_tissues_lie_in_their_order():
    for seed in range(20):
        tissue = {n: v[0] for n, v in ct_palette(np.random.default_rng(seed), enhanced=False).items()}
        assert tissue["air"] < tissue["lung"] < tissue["fat"] < tissue["fluid"] < tissue["cortical"]
        assert tissue["fat"] < tissue["muscle"] < tissue["marrow"] < tissue["cortical"]


def test_mr_palettes_hold_each_tissue_and_dark_air():
    orders = set()
    for seed in range(40):
        palette = mr_palette(np.random.default_rng(seed))
        assert set(palette) == set(TISSUES)
        assert palette["air"] == (0, 0)
        assert all(np.isfinite(v).all() and min(v) >= 0 for v in palette.values())
        orders.add(tuple(sorted(("csf", "grey", "white"), key=lambda n: palette[n][0])))
    assert len(orders) >= 4
