"""Running mean and standard deviation against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.inference import moments


@pytest.mark.parametrize("slab", [1, 40, 1 << 22])
def test_they_are_those_of_all_volumes(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_SLAB", slab)
    volumes = np.random.default_rng(0).normal(900, 20, (7, 5, 4, 3)).astype(np.float32)
    running = moments.RunningMoments()
    for volume in volumes:
        running.add(volume)
    np.testing.assert_allclose(running.mean, volumes.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(running.deviation(), volumes.std(0, ddof=1, dtype=np.float64), rtol=1e-4)
    assert running.deviation().dtype == running.mean.dtype == np.float32
