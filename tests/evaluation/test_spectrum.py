"""Error by spatial frequency, in the patient's line pairs per mm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import fftfreq, fftn, ifftn

from medrecon.evaluation.spectrum import SpectrumMeter, limit_of

SPACING = (0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 100, (128, 64, 48)).astype(np.float32)


def low_pass(volume: np.ndarray, limit: float, spacing=SPACING) -> np.ndarray:
    """Nothing beyond `limit` line pairs per mm, in whatever direction."""
    axes = [fftfreq(n, mm) for n, mm in zip(volume.shape, spacing, strict=True)]
    length = np.sqrt(sum(f**2 for f in np.meshgrid(*axes, indexing="ij")))
    return ifftn(fftn(volume) * (length <= limit)).real.astype(np.float32)


@pytest.mark.parametrize("cut", [0.2, 0.4, 0.7])
def test_the_limit_of_a_low_pass_is_found_in_line_pairs_per_mm(noise, cut):
    meter = SpectrumMeter(noise, SPACING, np.ones(noise.shape, bool))
    found = meter.error(low_pass(noise, cut))
    assert found.limit == pytest.approx(cut, abs=0.04)
    assert found.frequencies[-1] < 1.0  # Nyquist of the finest axis: 1 / (2 x 0.5 mm)


def test_spacing_counts(noise):
    body = np.ones(noise.shape, bool)
    recon = low_pass(noise, 0.4)
    halved = SpectrumMeter(noise, [2 * mm for mm in SPACING], body).error(recon)
    assert halved.limit == pytest.approx(0.2, abs=0.03)


def test_nothing_lost_and_everything_lost(noise):
    meter = SpectrumMeter(noise, SPACING, np.ones(noise.shape, bool))
    exact = meter.error(noise)
    assert max(exact.error) == 0
    assert exact.limit is None
    gone = meter.error(np.zeros_like(noise))
    assert gone.error == pytest.approx(np.ones(len(gone.error)), rel=1e-4)
    assert gone.limit == gone.frequencies[0]


def test_only_the_body_counts(noise):
    body = np.zeros(noise.shape, bool)
    body[:100] = True
    recon = noise.copy()
    recon[120:] = 0
    block = SpectrumMeter(noise, (2.0, 2.0, 2.0), body)
    assert all(corner[0] + block.block[0] <= 120 for corner in block.places)
    assert max(block.error(recon).error) == 0


def test_a_single_slice_has_a_spectrum(noise):
    plane = noise[:, :, :1]
    found = SpectrumMeter(plane, (1.0, 1.0, 5.0), np.ones(plane.shape, bool)).error(plane * 0.5)
    assert found.error == pytest.approx([0.25] * len(found.error), rel=1e-3)


def test_the_limit_is_where_it_stays_above():
    frequencies = np.array([0.1, 0.2, 0.3, 0.4])
    assert limit_of(frequencies, np.array([0.9, 0.0, 0.25, 0.75])) == pytest.approx(0.35)
    assert limit_of(frequencies, np.array([0.9, 0.9, 0.9, 0.1])) is None
    assert limit_of(frequencies, np.array([0.6, 0.9, 0.9, 0.9])) == 0.1
