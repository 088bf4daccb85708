"""MS-SSIM agrees with MONAI's where that is defined, however the volume lies in memory and is cut."""

from __future__ import annotations

import importlib
import tracemalloc

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from medrecon.errors import UsageError
from medrecon.evaluation import fidelity, ms_ssim
from medrecon.evaluation.msssim import MultiScaleSSIM
from medrecon.evaluation.similarity import EXPONENTS, exponents, halvings

MODULE = importlib.import_module("medrecon.evaluation.msssim")


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth and rough detail in about [0, 1], and a blurred, noisy, biased copy."""
    rng = np.random.default_rng(seed)
    source = 0.4 + 0.1 * rng.normal(size=shape)
    for axis, n in enumerate(shape):
        wave = np.sin(np.arange(n) * 0.1 * (axis + 1)) + 0.5 * np.sin(np.arange(n) * 0.9)
        source += 0.1 * wave.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    blurred = (source + np.roll(source, 1, 0)) / 2
    return source.astype(np.float32), (0.9 * blurred + 0.08 * rng.normal(size=shape)).astype(np.float32)


def monais(x: np.ndarray, y: np.ndarray, weights: tuple[float, ...] = EXPONENTS) -> float:
    metric = MultiScaleSSIMMetric(x.ndim, data_range=1.0, weights=weights)
    return float(metric(*(torch.from_numpy(np.ascontiguousarray(v))[None, None] for v in (y, x))))


@pytest.mark.parametrize("slab", [1, 5 * 183 * 190, 1 << 21])
@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_agree_with_monai(order: str, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_SLAB", slab)
    source, recon = pair((183, 190))
    found = ms_ssim(np.asarray(source, order=order), recon, data_range=1.0)
    assert found == pytest.approx(monais(source, recon), abs=2e-5)
    assert found < 0.99


@pytest.mark.parametrize("slab", [1, 1 << 12, 1 << 21])
def test_volumes_agree_with_monai(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three scales, so that a small volume will do; with odd sizes at each of them."""
    monkeypatch.setattr(MODULE, "_SLAB", slab)
    source, recon = pair((47, 51, 45))
    assert len(halvings(source.shape)) == 2
    assert ms_ssim(source, recon, data_range=1.0) == pytest.approx(
        monais(source, recon, exponents(3)), abs=2e-5
    )


def plain(x: np.ndarray, y: np.ndarray, weights: tuple[float, ...] = EXPONENTS) -> float:
    """The definition, filtered whole and in float64: MONAI's dense windows take a minute for five scales."""
    kernel = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    kernel /= kernel.sum()

    def window(values: np.ndarray) -> np.ndarray:
        for axis in range(values.ndim):
            values = correlate1d(values, kernel, axis=axis)
        return values[(slice(5, -5),) * values.ndim]

    index = 1.0
    x, y = x.astype(np.float64), y.astype(np.float64)
    for place, weight in enumerate(weights):
        mean_x, mean_y = window(x), window(y)
        spread = window(x * x) - mean_x**2 + window(y * y) - mean_y**2
        term = (2 * (window(x * y) - mean_x * mean_y) + 0.03**2) / (spread + 0.03**2)
        if place == len(weights) - 1:
            term *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        index *= max(0.0, float(term.mean())) ** weight
        for axis in range(x.ndim):
            x, y = (_halved(v, axis) for v in (x, y))
    return index


def _halved(values: np.ndarray, axis: int) -> np.ndarray:
    values = np.moveaxis(values, axis, 0)[: values.shape[axis] // 2 * 2]
    return np.moveaxis((values[::2] + values[1::2]) / 2, 0, axis)


def test_the_plain_definition_is_monais() -> None:
    source, recon = pair((47, 51, 45))
    assert plain(source, recon, exponents(3)) == pytest.approx(monais(source, recon, exponents(3)), abs=2e-5)


def test_all_five_scales_of_a_volume_agree_with_the_plain_definition() -> None:
    source, recon = pair((176, 177, 179))
    assert ms_ssim(source, recon, data_range=1.0) == pytest.approx(plain(source, recon), abs=2e-5)


def test_a_thin_stack_is_halved_in_its_plane() -> None:
    source, recon = pair((183, 190, 8))
    assert halvings(source.shape) == [(True, True, False)] * 4
    volumes = [ms_ssim(v, recon, data_range=1.0) for v in (source, 0.9 * source + 0.1 * recon, recon)]
    assert 0 < volumes[0] < volumes[1] < volumes[2] == pytest.approx(1)
    for lift in (lambda v: v[None], lambda v: v[:, None], lambda v: v[..., None]):
        flat = [lift(v[..., 3]) for v in (source, recon)]
        assert ms_ssim(*flat, data_range=1.0) == pytest.approx(
            monais(source[..., 3], recon[..., 3]), abs=2e-5
        )


def test_with_one_scale_it_is_the_ssim() -> None:
    source, recon = pair((20, 21, 18))
    wanted = structural_similarity(
        source, recon, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    assert ms_ssim(source, recon, data_range=1.0) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (12, 1, 9), (4, 5), (23, 3, 60)])
def test_any_size_has_an_index(shape: tuple[int, ...]) -> None:
    source, recon = pair(shape)
    assert 0 <= ms_ssim(source, recon, data_range=1.0) < 1
    assert ms_ssim(source, source.copy(), data_range=1.0) == pytest.approx(1)


def test_units_and_clipping() -> None:
    source, recon = pair((60, 50))
    wanted = ms_ssim(source, recon, data_range=1.0)
    hu = [4095.0 * v - 1024 for v in (source, recon)]
    assert ms_ssim(*hu, data_range=(-1024, 3071)) == pytest.approx(wanted, abs=1e-4)
    assert ms_ssim(*(v.astype(np.float64) for v in hu), data_range=(-1024, 3071)) == pytest.approx(wanted)
    integers = [np.rint(v).astype(np.int16) for v in hu]
    assert ms_ssim(*integers, data_range=(-1024, 3071)) == pytest.approx(wanted, abs=1e-3)
    padded = hu[0].copy()
    padded[:20] = -1024
    beyond = np.where(padded == -1024, -3024, padded)
    assert ms_ssim(padded, beyond, data_range=(-1024, 3071), clip=True) == pytest.approx(1)
    assert ms_ssim(padded, beyond, data_range=(-1024, 3071)) < 0.9


def test_it_is_never_negative() -> None:
    source, _ = pair((60, 50))
    assert ms_ssim(source, 1 - source, data_range=1.0) == 0


def test_refusals() -> None:
    source, recon = pair((20, 20))
    with pytest.raises(UsageError, match=r"volumes of shape \(20, 20\) and \(20, 19\)"):
        ms_ssim(source, recon[:, :-1], data_range=1.0)
    with pytest.raises(ValueError, match="must be below"):
        ms_ssim(source, recon, data_range=(1.0, 1.0))


def test_memory_is_bounded() -> None:
    source = np.zeros((480, 128, 128), np.int16)
    tracemalloc.start()
    ms_ssim(source, source, data_range=4095.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20, f"{peak / 2**20:.0f} MiB, for 15 MiB volumes"


def test_scales() -> None:
    assert exponents(5) == EXPONENTS
    assert sum(exponents(2)) == pytest.approx(sum(EXPONENTS))
    assert halvings((176, 400)) == [(True, True)] * 4
    assert halvings((175, 175)) == [(True, True)] * 3
    assert halvings((10, 21, 1)) == []
    assert halvings((44, 22, 30)) == [(True, True, True), (True, False, False)]
    assert halvings((44, 44), most=1) == []


def test_ssim_and_ms_ssim_in_one_pass():
    rng = np.random.default_rng(3)
    source = rng.normal(0, 300, (70, 66, 40)).astype(np.float32)
    recon = source + rng.normal(0, 60, source.shape).astype(np.float32)
    made = []

    def similarity(shape):
        made.append(MultiScaleSSIM(shape))
        return made[0]

    found = fidelity(source, recon, units="HU", similarity=similarity)
    assert found == fidelity(source, recon, units="HU")
    expected = ms_ssim(source, recon, data_range=found.data_range, clip=True)
    assert made[0].value == pytest.approx(expected, rel=1e-5)
