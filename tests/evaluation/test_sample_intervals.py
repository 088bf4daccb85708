"""Intervals from samples hold what they state where samples are right; calibration mends them elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.evaluation.sample_intervals import (
    CALIBRATED,
    CONFORMAL,
    DRAWN,
    LEVELS,
    agreement,
    sample_intervals,
)
from medrecon.evaluation.uncertainty import calibration_blocks, local_detail

SHAPE, COUNT = (64, 64, 48), 6


def drawn(scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A scan, a decoder's answer, and mean and deviation of samples `scale` times as wide as is right."""
    chance = np.random.default_rng(0)
    recon = np.linspace(0, 1000, SHAPE[0])[:, None, None] + np.zeros(SHAPE)
    width = 5 + 20 * (np.indices(SHAPE)[1] > 32)
    source = (recon + width * chance.normal(size=SHAPE)).astype(np.float32)
    samples = recon + scale * width * chance.normal(size=(COUNT, *SHAPE))
    return source, recon.astype(np.float32), samples.mean(0), samples.std(0, ddof=1)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_coverage_is_measured_and_mended(scale: float) -> None:
    source, recon, mean, deviation = drawn(scale)
    body, blocks = np.ones(SHAPE, bool), calibration_blocks(SHAPE)
    found = sample_intervals(source, recon, mean, deviation, COUNT, body, blocks)
    assert [(each.way, each.level) for each in found] == [
        (way, level) for level in LEVELS for way in (DRAWN, CALIBRATED, CONFORMAL)
    ]
    by = {(each.way, each.level): each for each in found}
    for level in LEVELS:
        plain = by[DRAWN, level].coverage
        assert abs(plain - level) < 0.01 if scale == 1 else plain < level - 0.15
        assert by[CALIBRATED, level].coverage == pytest.approx(level, abs=0.01)
        assert by[CONFORMAL, level].coverage == pytest.approx(level, abs=0.02)
    assert by[CALIBRATED, 0.5].width < by[CALIBRATED, 0.9].width
    wider = by[CALIBRATED, 0.9].width / by[DRAWN, 0.9].width
    assert wider > 2.5 if scale < 1 else wider == pytest.approx(1, abs=0.02)


def test_nothing_held_out_has_no_coverage() -> None:
    source, recon, mean, deviation = drawn(1)
    nowhere, blocks = np.zeros(SHAPE, bool), calibration_blocks(SHAPE)
    assert np.isnan(sample_intervals(source, recon, mean, deviation, COUNT, nowhere, blocks)[0].coverage)


@pytest.mark.parametrize("common", [0.0, 0.6, 1.0])
def test_agreement_is_the_share_that_all_samples_show(common: float) -> None:
    chance = np.random.default_rng(1)
    shape = (40, 40, 20)
    shared = np.sqrt(common) * chance.normal(size=shape)
    samples = [shared + np.sqrt(1 - common) * chance.normal(size=shape) for _ in range(4)]
    variance = np.mean([np.square(local_detail(each.astype(np.float32))) for each in samples], axis=0)
    found = agreement(local_detail(np.mean(samples, axis=0).astype(np.float32)), variance, 4)
    assert found.mean() == pytest.approx(common, abs=0.05)
    assert found.dtype == np.float32
    flat = np.zeros(shape, np.float32)
    assert not agreement(flat, flat, 4).any()
