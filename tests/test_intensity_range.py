"""The range of values that counts does not depend on margins, outliers or memory layout."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.intensity_range import intensity_range


def test_hu_is_the_window_whatever_the_image() -> None:
    assert intensity_range(np.zeros(5), "HU") == (-1024.0, 3071.0)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 0.99])
def test_background_does_not_move_the_range(share: float) -> None:
    rng = np.random.default_rng(0)
    brain = rng.normal(600, 100, 100_000)
    margin = np.zeros(round(brain.size * share / (1 - share)))
    low, high = intensity_range(rng.permutation(np.concatenate([margin, brain])), "")
    assert high == pytest.approx(np.percentile(brain, 99.5), rel=1e-2)
    assert low == (0 if share else pytest.approx(np.percentile(brain, 0.5), rel=1e-2))


def test_background_above_the_signal_stays_inside() -> None:
    low, high = intensity_range(np.concatenate([np.full(1000, 900.0), np.linspace(0, 100, 1001)]), "")
    assert (low, high) == (pytest.approx(0.5), 900)


@pytest.mark.parametrize("shape", [(512, 64, 100), (256, 256, 64), (96, 512, 63)])
def test_large_volumes_are_sampled_evenly_and_alike(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    volume = rng.gamma(2, 100, shape) + 50 * np.sin(np.arange(shape[-1]))  # differs from column to column
    expected = np.percentile(volume, (0.5, 99.5))
    found = intensity_range(volume, "")
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert intensity_range(np.asfortranarray(volume), "") == found
    assert intensity_range(volume[None], "") == found


def test_outliers_do_not_set_the_range() -> None:
    values = np.random.default_rng(0).normal(100, 10, 10_000)
    values[:3] = 1e9, -1e9, np.nan
    low, high = intensity_range(values, "")
    assert 60 < low < 80
    assert 120 < high < 140


def test_two_values() -> None:
    assert intensity_range(np.array([0, 0, 0, 7], np.uint16), "") == (0, 7)


def test_nothing_finite() -> None:
    with pytest.raises(ValueError, match="no finite value"):
        intensity_range(np.full(4, np.nan), "")
