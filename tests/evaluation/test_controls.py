"""The linear control keeps exactly what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn

from medrecon.evaluation import dct_code, fidelity, mean_image
from medrecon.evaluation.controls import lowest_frequencies


def volume(shape: tuple[int, ...] = (40, 33, 21)) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 2000, shape).astype(np.int16)


def test_all_coefficients_give_the_volume_back() -> None:
    np.testing.assert_allclose(dct_code(volume(), 1.0), volume(), atol=2e-3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_block_keeps_its_lowest_coefficients(order: str) -> None:
    source = np.asarray(volume((32, 48, 16)), order=order)
    recon = dct_code(source)
    assert recon.dtype == np.float32
    code, original = (dctn(v[:16, 16:32].astype(np.float64), norm="ortho") for v in (recon, source))
    kept = np.abs(code) > 1e-2
    assert kept.sum() == 256
    np.testing.assert_allclose(code[kept], original[kept], atol=1e-2)
    radius = np.sqrt(sum(i.astype(float) ** 2 for i in np.indices(code.shape)))
    assert radius[kept].max() <= radius[~kept].min()


def test_it_is_linear_and_each_block_stands_alone() -> None:
    source = volume((32, 32, 32))
    recon = dct_code(source)
    np.testing.assert_allclose(dct_code(source * 3.0 + 5), recon * 3 + 5, atol=0.02)
    changed = source.copy()
    changed[:16] = 0
    np.testing.assert_array_equal(dct_code(changed)[16:], recon[16:])


@pytest.mark.parametrize("shape", [(5, 7, 3), (17, 1, 16), (20, 31)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    constant = np.full(shape, 100, np.int16)
    np.testing.assert_allclose(dct_code(constant), 100, rtol=1e-5)
    assert dct_code(volume(shape)).shape == shape


def test_slices_are_coded_alone() -> None:
    source = volume((32, 32, 3))
    by_slice = np.stack([dct_code(source[..., k]) for k in range(3)], axis=-1)
    for order in "CF":
        found = dct_code(np.asarray(source, order=order), block=(16, 16, 1))
        np.testing.assert_allclose(found, by_slice, atol=1e-3)
    assert lowest_frequencies((16, 16, 1), 1 / 16).sum() == 16


def test_more_values_keep_more() -> None:
    source = np.cumsum(volume((32, 32, 32)), axis=0).astype(np.float32)
    found = [fidelity(source, dct_code(source, rate), units="").psnr for rate in (1 / 64, 1 / 16, 1 / 4)]
    assert found == sorted(found)
    assert found[0] > fidelity(source, mean_image(source), units="").psnr


def test_mean_image() -> None:
    found = mean_image(volume())
    assert found.shape == volume().shape
    np.testing.assert_allclose(found, volume().mean(), rtol=1e-6)


def test_memory_layout_makes_no_difference() -> None:
    volume = np.random.default_rng(0).random((33, 21, 18), dtype=np.float32)
    expected = dct_code(volume)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)):
        stored = np.ascontiguousarray(volume.transpose(order)).transpose(np.argsort(order))
        np.testing.assert_allclose(dct_code(stored), expected, atol=1e-5)
