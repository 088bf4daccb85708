"""What a generated volume shows is known voxel by voxel, and asking for it changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.phantoms import labelled_volume, random_volume


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_labels_belong_to_the_volume_that_is_made_without_them(seed: int) -> None:
    volume, units, labels, tissues = labelled_volume((40, 48, 24), np.random.default_rng(seed))
    alone, same = random_volume((40, 48, 24), np.random.default_rng(seed))
    assert np.array_equal(volume, alone)
    assert units == same
    assert labels.shape == volume.shape
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) > 2
    assert labels.max() < len(tissues)


def test_tissues_have_the_values_that_ct_gives_them() -> None:
    air, bone = [], []
    for seed in range(6):
        volume, _, labels, tissues = labelled_volume((48, 48, 24), np.random.default_rng(seed), "CT")
        air += volume[labels == tissues.index("air")].tolist()
        bone += volume[labels == tissues.index("cortical")].tolist()
    assert np.median(air) < -800
    assert np.median(bone) > 300
