"""The noise of scans whose noise is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medrecon.evaluation.noise import noise_level

SHAPE = (64, 60, 12)


def anatomy() -> np.ndarray:
    """Planes, straight edges, a ball and fine stripes that fill less than half of it."""
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    volume = 300 * x + 200 * y + 0 * z
    volume = np.where(x**2 + y**2 + z**2 < 0.3, volume + 500, volume)
    volume[40:, 30:] += 400
    volume[:20, :20] += 300 * (np.indices((20, 20)).sum(axis=0) % 2)[..., None]
    return volume


@pytest.mark.parametrize("sigma", [3.0, 12.0, 80.0])
def test_known_noise_is_found_whatever_the_anatomy(sigma: float) -> None:
    volume = anatomy() + np.random.default_rng(1).normal(0, sigma, SHAPE)
    found = noise_level(volume, np.ones(SHAPE, bool))
    assert found == pytest.approx(sigma, rel=0.25 if sigma > 5 else 0.6)


def test_only_the_body_counts() -> None:
    noise = np.random.default_rng(2).normal(0, 1, SHAPE)
    noise[:, 30:] *= 50
    body = np.zeros(SHAPE, bool)
    body[:, :30] = True
    assert noise_level(noise, body) == pytest.approx(1, rel=0.1)


def test_smooth_noise_is_never_overestimated() -> None:
    noise = np.random.default_rng(3).normal(0, 10, SHAPE)
    smooth = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 4
    assert noise_level(smooth, np.ones(SHAPE, bool)) <= smooth.std()


def test_nothing_to_measure() -> None:
    assert noise_level(np.full(SHAPE, 7), np.ones(SHAPE, bool)) == 0
    assert math.isnan(noise_level(np.zeros((2, 9, 9)), np.ones((2, 9, 9), bool)))
    assert math.isnan(noise_level(np.zeros(SHAPE), np.zeros(SHAPE, bool)))
