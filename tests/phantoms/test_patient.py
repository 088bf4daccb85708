"""A patient's anatomy is its own; a visit changes the scan and not the anatomy."""

from __future__ import annotations

import numpy as np

from medrecon.phantoms import patient_scan
from medrecon.phantoms.patient import painted
from medrecon.phantoms.tissues import mr_palette

SHAPE = (32, 32, 32)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_the_anatomy_is_the_same_under_any_sequence() -> None:
    images, labels = zip(
        *(painted(SHAPE, 7.0, 3, mr_palette(np.random.default_rng(seed))) for seed in (0, 1)), strict=True
    )
    assert np.array_equal(*labels)
    assert len(np.unique(labels[0])) > 5
    assert not np.allclose(*images)
    other = painted(SHAPE, 7.0, 4, mr_palette(np.random.default_rng(0)))[1]
    assert (labels[0] != other).mean() > 0.05


def test_two_visits_are_two_scans_of_one_patient() -> None:
    first, second = (patient_scan(SHAPE, 7.0, 3, visit, sequence=5) for visit in (0, 1))
    assert first.shape == SHAPE
    assert first.dtype == np.float32
    assert np.array_equal(first, patient_scan(SHAPE, 7.0, 3, 0, sequence=5))
    assert alike(first, second) < 0.995
    strangers = [alike(first, patient_scan(SHAPE, 7.0, other, 1, sequence=5)) for other in (4, 5, 6)]
    assert alike(first, second) > max(strangers)


def test_visits_have_sequences_of_their_own_unless_they_share_one() -> None:
    still = {"turned": 0.0, "moved": 0.0}
    shared = [patient_scan(SHAPE, 7.0, 3, visit, sequence=5, **still) for visit in (0, 1)]
    own = [patient_scan(SHAPE, 7.0, 3, visit, **still) for visit in (0, 1)]
    assert alike(*shared) > alike(*own)
