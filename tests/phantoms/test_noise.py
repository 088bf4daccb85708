"""Random fields: unit variance, the asked smoothness, the ramp's spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.phantoms.noise import fractal_noise, ramp_noise, separable, smooth_noise, spline_matrix


def neighbour_correlation(volume: np.ndarray, axis: int) -> float:
    a = np.moveaxis(volume, axis, 0)
    return float(np.corrcoef(a[1:].ravel(), a[:-1].ravel())[0, 1])


def test_separable_multiplies_along_each_axis():
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((4, 5, 6)).astype(np.float32)
    a, b, c = (rng.standard_normal((n + 2, n)).astype(np.float32) for n in volume.shape)
    np.testing.assert_allclose(
        separable(volume, [a, b, c]), np.einsum("ijk,xi,yj,zk->xyz", volume, a, b, c), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        separable(volume, [None, b, None]), np.einsum("ijk,yj->iyk", volume, b), rtol=1e-5, atol=1e-5
    )


def test_spline_rows_are_of_unit_length():
    for step, phase in ((1.5, 0.0), (4.0, 0.7), (37.0, 0.2)):
        matrix = spline_matrix(50, step, phase)
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("step", [(1.0, 1.0, 1.0), (3.0, 3.0, 3.0), (4.0, 2.0, 1.0)])
@pytest.mark.parametrize("band", [False, True])
def test_smooth_noise_has_unit_variance_and_follows_its_step(step, band):
    volume = smooth_noise((60, 61, 62), step, np.random.default_rng(1), band=band)
    assert volume.shape == (60, 61, 62)
    assert volume.dtype == np.float32
    assert abs(volume.mean()) < 0.12
    assert 0.8 < volume.std() < 1.2
    for axis, size in enumerate(step):
        correlation = neighbour_correlation(volume, axis)
        if size == 1.0:
            assert abs(correlation) < (0.4 if band else 0.1)
        else:
            assert correlation > 0.6


def test_band_limited_noise_has_no_slow_part():
    rng = np.random.default_rng(2)
    slow = [smooth_noise((64, 64, 64), (3.0,) * 3, rng, band=b)[:32, :32, :32].mean() for b in [True] * 20]
    fast = [smooth_noise((64, 64, 64), (3.0,) * 3, rng, band=b)[:32, :32, :32].mean() for b in [False] * 20]
    assert np.std(slow) < 0.3 * np.std(fast)


def test_fractal_noise_has_unit_variance():
    volume = fractal_noise((64, 64, 64), (6.0, 6.0, 6.0), np.random.default_rng(3))
    assert 0.8 < volume.std() < 1.2


@pytest.mark.parametrize("shape", [(64, 64, 10), (50, 63, 7)])
def test_ramp_noise_rises_and_falls(shape):
    noise = ramp_noise(shape, 0.6, np.random.default_rng(4))
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1, abs=0.03)
    power = (np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2).mean(2)
    f = 2 * np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    low, middle, high = (power[(f >= a) & (f < b)].mean() for a, b in ((0.0, 0.08), (0.25, 0.45), (0.9, 1.0)))
    assert middle > 1.8 * low
    assert middle > 5 * high
    assert abs(neighbour_correlation(noise, 2)) < 0.05
