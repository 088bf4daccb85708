"""Random volumes: repeatable, of the asked shape and units, varied."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.phantoms import random_volume


@pytest.mark.parametrize("modality", ["CT", "MR", None])
@pytest.mark.parametrize("shape", [(32, 32, 32), (40, 24, 9), (17, 50, 31)])
def test_same_state_same_volume(shape, modality):
    for seed in range(4):
        volume, units = random_volume(shape, np.random.default_rng(seed), modality)
        again, _ = random_volume(shape, np.random.default_rng(seed), modality)
        other, _ = random_volume(shape, np.random.default_rng(seed + 100), modality)
        assert volume.shape == shape
        assert volume.dtype == np.float32
        assert np.isfinite(volume).all()
        assert np.array_equal(volume, again)
        assert not np.array_equal(volume, other)
        if modality is not None:
            assert units == ("HU" if modality == "CT" else "")


def test_ct_holds_what_a_scanner_can_store():
    for seed in range(12):
        volume, units = random_volume((32, 32, 24), np.random.default_rng(seed), "CT")
        assert units == "HU"
        assert volume.max() <= 3071
        assert volume.min() >= -3024
        assert np.array_equal(volume, np.rint(volume))
