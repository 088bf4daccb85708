"""The filters are correlations, along each axis and for sizes that fill no block."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from medrecon.evaluation.filters import filter_valid


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(37, 41, 29), (11, 50, 16), (20, 11, 1300), (30, 13, 12)])
def test_as_scipy_has_it(axis: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(axis)
    values = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.random(min(11, shape[axis]) | 1 if shape[axis] > 10 else 5)
    half = len(kernel) // 2
    middle = (slice(None),) * axis + (slice(half, shape[axis] - half),)
    wanted = correlate1d(values.astype(np.float64), kernel, axis=axis, mode="nearest")[middle]
    found = filter_valid(values, kernel, axis)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_view_is_filtered_like_its_copy() -> None:
    values = np.random.default_rng(0).standard_normal((24, 30, 28)).astype(np.float32).transpose(2, 0, 1)
    for axis in range(3):
        found = filter_valid(values, np.ones(3), axis)
        np.testing.assert_allclose(found, filter_valid(values.copy(), np.ones(3), axis), atol=1e-6)


def test_one_weight_changes_nothing() -> None:
    values = np.ones((2, 2, 2), np.float32)
    assert filter_valid(values, np.ones(1), 0) is values
