"""Intervals that hold where they were not calibrated, and detail that is made up."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.evaluation.uncertainty import (
    calibration_blocks,
    conformal_interval,
    invented,
    local_detail,
)

SHAPE = (96, 80, 40)


@pytest.fixture(scope="module")
def scan() -> tuple[np.ndarray, np.ndarray]:
    """A source, and a reconstruction whose error is ten times as large in its busy half."""
    rng = np.random.default_rng(0)
    smooth = np.broadcast_to(np.linspace(0, 50, SHAPE[1])[None, :, None], SHAPE)
    busy = np.arange(SHAPE[0])[:, None, None] >= SHAPE[0] // 2
    recon = smooth + busy * rng.normal(0, 100, SHAPE)
    source = recon + rng.normal(0, 1, SHAPE) * np.where(busy, 20.0, 2.0)
    return source.astype(np.float32), recon.astype(np.float32)


def test_the_interval_holds_on_blocks_that_were_held_out(scan):
    source, recon = scan
    calibrate = calibration_blocks(SHAPE)
    body = np.ones(SHAPE, bool)
    found = conformal_interval(source, recon, local_detail(recon), body, calibrate)
    assert found.coverage == pytest.approx(0.9, abs=0.01)
    held = ~calibrate
    inside = np.abs(source - recon) <= found.half_width
    for half in (slice(0, 40), slice(56, 96)):
        assert inside[half][held[half]].mean() == pytest.approx(0.9, abs=0.02)
    assert found.half_width[:40].mean() == pytest.approx(1.645 * 2, rel=0.1)
    assert found.half_width[56:].mean() == pytest.approx(1.645 * 20, rel=0.1)
    assert found.mean == pytest.approx(found.half_width.mean(), rel=1e-5)
    assert found.tied < 1e-3


def test_whole_numbers_tie_at_the_ends(scan):
    """Errors of 0 and 1 alone: an interval holds the zeros or everything, and says that the ones are ties."""
    _, recon = scan
    rng = np.random.default_rng(3)
    recon = np.rint(recon)
    source = recon + (rng.random(SHAPE) < 0.3)
    found = conformal_interval(
        source, recon, local_detail(recon), np.ones(SHAPE, bool), calibration_blocks(SHAPE)
    )
    assert found.coverage == 1
    assert found.tied == pytest.approx(0.3, abs=0.01)


def test_coverage_is_measured_and_not_assumed(scan):
    source, recon = scan
    calibrate = calibration_blocks(SHAPE)
    worse = np.where(calibrate, source, source + 300)  # the held-out half is not like the other
    found = conformal_interval(worse, recon, local_detail(recon), np.ones(SHAPE, bool), calibrate)
    assert found.coverage < 0.05


def test_coverage_is_that_of_the_body(scan):
    source, recon = scan
    calibrate = calibration_blocks(SHAPE)
    body = np.zeros(SHAPE, bool)
    body[50:] = True
    elsewhere = source.copy()
    elsewhere[:40] += np.where(calibrate[:40], 0, 500)
    found = conformal_interval(elsewhere, recon, local_detail(recon), body, calibrate)
    assert found.coverage == pytest.approx(0.9, abs=0.02)


def test_a_perfect_reconstruction_has_no_width(scan):
    source, _ = scan
    found = conformal_interval(
        source, source, local_detail(source), np.ones(SHAPE, bool), calibration_blocks(SHAPE)
    )
    assert (found.coverage, found.mean) == (1.0, 0.0)


@pytest.mark.parametrize("shape", [SHAPE, (64, 64, 3), (20, 18, 10)])
def test_half_of_the_blocks_are_calibrated_on(shape):
    chosen = calibration_blocks(shape)
    assert chosen.shape == shape
    assert 0.35 < chosen.mean() < 0.65
    assert np.array_equal(chosen, calibration_blocks(shape))
    along = np.count_nonzero(np.diff(chosen, axis=0)) / chosen.size
    assert along < 0.3  # blocks, not salt and pepper


def test_local_detail_is_the_standard_deviation_of_a_window():
    rng = np.random.default_rng(1)
    volume = rng.normal(1000, 30, (20, 18, 12)).astype(np.float32)
    found = local_detail(volume)
    assert found[9, 8, 5] == pytest.approx(volume[7:12, 6:11, 3:8].std(), rel=1e-3)
    assert local_detail(np.full((8, 8, 2), 5, np.int16)).max() == 0


def test_what_is_made_up_is_detail_beyond_the_interval():
    source = np.zeros((30, 30, 12), np.float32)
    recon = source.copy()
    recon[8, 8, 6] = 100  # a spot that is not there
    source[20, 20, 6] = 100  # a spot that was lost
    width = np.full(source.shape, 30, np.float32)
    found = invented(source, recon, width, local_detail(source), local_detail(recon))
    assert found[8, 8, 6] == 70
    assert np.count_nonzero(found) == 1
