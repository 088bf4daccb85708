"""Volumes turned round come out as numpy would turn them."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.io import axes


@pytest.mark.parametrize("at_once", [1, 7, 40, 1 << 19])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", "<f4"])
def test_turned(at_once: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "_BLOCK", at_once)
    values = np.random.default_rng(0).normal(200, 50, (4, 5, 3)).astype(np.float32)
    shifts = np.array([1.0, 20.0, -3.0], np.float32)
    expected = np.rint(values - shifts).transpose(2, 1, 0)
    for volume in (values, np.asfortranarray(values), values[::-1].copy()[::-1]):
        made = axes.turned(volume, np.dtype(dtype), lambda part: np.rint(part - shifts))
        assert made.dtype == np.dtype(dtype)
        assert made.flags.c_contiguous
        assert np.array_equal(made, expected)
    assert np.array_equal(axes.turned(expected, np.dtype(np.float32)), expected.transpose(2, 1, 0))
