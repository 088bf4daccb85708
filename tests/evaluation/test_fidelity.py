"""The figures agree with skimage's and MONAI's, however the volume lies in memory and is cut."""

from __future__ import annotations

import importlib
import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric, SSIMMetric
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medrecon.errors import UsageError
from medrecon.evaluation import fidelity

MODULE = importlib.import_module("medrecon.evaluation.fidelity")
SHAPE = (40, 33, 27)


def pair(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A smooth volume in [0, 1000] and a noisy, blurred, biased copy."""
    rng = np.random.default_rng(seed)
    waves = sum(
        np.sin(np.arange(n) * 0.3 * (a + 1)).reshape([-1 if b == a else 1 for b in range(len(shape))])
        for a, n in enumerate(shape)
    )
    source = (500 + 100 * waves + rng.normal(0, 60, shape)).astype(np.float32)
    return source, (0.9 * source + 30 + rng.normal(0, 30, shape)).astype(np.float32)


def skimage_ssim(x: np.ndarray, y: np.ndarray) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(x.astype(np.float64), y.astype(np.float64), data_range=1.0, **options)


def gradient(volume: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1)) -> float:
    inner = [slice(0, n - 1) for n in SHAPE]
    parts = [np.diff(volume.astype(np.float64), axis=a)[tuple(inner)] / spacing[a] for a in range(3)]
    return float(np.sqrt(sum(p**2 for p in parts)).mean())


@pytest.mark.parametrize("slab", [1, 33 * 27, 9 * 33 * 27, 1 << 22])
@pytest.mark.parametrize("order", ["C", "F"])
def test_agrees_with_skimage_and_monai(order: str, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_SLAB", slab)
    source, recon = pair()
    found = fidelity(np.asarray(source, order=order), recon, units="", data_range=(100.0, 1100.0))
    x, y = (source - 100) / 1000, (recon - 100) / 1000
    assert found.ssim == pytest.approx(skimage_ssim(x, y), abs=1e-5)
    assert found.sharpness == pytest.approx(gradient(recon) / gradient(source), rel=1e-5)
    tensors = [torch.from_numpy(v)[None, None] for v in (y, x)]
    assert found.ssim == pytest.approx(float(SSIMMetric(3, data_range=1.0)(*tensors)), abs=1e-4)
    assert found.psnr == pytest.approx(float(PSNRMetric(1.0)(*tensors)), abs=1e-3)
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(source, recon, data_range=1000), abs=1e-3)


def test_one_slice_gets_the_2d_index() -> None:
    source, recon = pair(shape=(40, 33))
    expected = skimage_ssim(source / 1000, recon / 1000)
    for lift in (lambda v: v, lambda v: v[None], lambda v: v[:, :, None]):
        found = fidelity(lift(source), lift(recon), units="", data_range=(0, 1000))
        assert found.ssim == pytest.approx(expected, abs=1e-5)
        assert found.sharpness == pytest.approx(fidelity(source, recon, units="").sharpness)


@pytest.mark.parametrize("shape", [(40, 33, 4), (5, 30, 30), (1, 1, 1), (2, 2, 2), (12, 1, 9)])
def test_thin_volumes_have_an_index(shape: tuple[int, int, int]) -> None:
    source, recon = pair(shape=shape)
    assert 0 < fidelity(source, recon, units="", data_range=(0, 1000)).ssim < 1
    assert fidelity(source, source, units="", data_range=(0, 1000)).ssim == pytest.approx(1)


def test_errors_are_in_source_units() -> None:
    source = np.random.default_rng(0).integers(-1024, 2000, SHAPE).astype(np.int16)
    error = np.random.default_rng(1).integers(-20, 60, SHAPE)
    found = fidelity(source, (source + error).astype(np.float32), units="HU")
    error = np.maximum(source + error, -1024) - source
    assert found.mae == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert found.bias == pytest.approx(error.mean(), rel=1e-6)
    assert found.rmse == pytest.approx(math.sqrt((error**2).mean()), rel=1e-6)
    assert found.max_error == np.abs(error).max()
    assert found.psnr == pytest.approx(20 * math.log10(4095 / found.rmse), abs=1e-6)
    assert found.data_range == (-1024, 3071)
    assert found.voxels == source.size


def test_hu_outside_the_window() -> None:
    source, recon = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.float32)
    source[:3], recon[:3] = -3024, -1024
    recon[-1] = -4000
    source[-1] = -1024
    same = fidelity(source, recon, units="HU")
    assert (same.mae, same.psnr) == (0, math.inf), "padding is no density"
    assert same.ssim == pytest.approx(1)
    source[5], recon[5] = 3071, 5071
    metal = fidelity(source, recon, units="HU")
    assert metal.max_error == 2000
    assert metal.psnr == math.inf, "PSNR clips both to the window"


def test_wide_types_keep_their_last_digit() -> None:
    source = (2_000_000_000 + np.arange(np.prod(SHAPE)) % 50).reshape(SHAPE).astype(np.int32)
    found = fidelity(source, source + 1, units="")
    assert (found.mae, found.bias, found.max_error) == (1, 1, 1)


def test_range_of_other_units_ignores_the_background() -> None:
    source, _ = pair()
    with_margin = np.zeros((120, 33, 27), np.float32)
    with_margin[:40] = source
    low, high = fidelity(with_margin, with_margin, units="").data_range
    assert low == 0
    assert high == pytest.approx(np.percentile(source, 99.5), rel=1e-3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_sharpness_falls_with_blur_and_knows_the_spacing(order: str) -> None:
    grain = np.asarray(np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32), order=order)
    blurred = (grain + np.roll(grain, 1, 2)) / 2
    assert 0.4 < fidelity(grain, blurred, units="").sharpness < 0.9
    spacing = (1, 2, 0.01)
    found = fidelity(grain, blurred, units="", spacing=spacing).sharpness
    assert found == pytest.approx(gradient(blurred, spacing) / gradient(grain, spacing), rel=1e-5)


def test_identity_and_constant_are_told_without_nan_in_json() -> None:
    source, _ = pair()
    record = fidelity(source, source, units="").to_dict()
    assert record["psnr"] is None
    assert record["mae"] == 0
    constant = np.full(SHAPE, 7, np.int16)
    other = fidelity(constant, constant + 1, units="").to_dict()
    assert other["sharpness"] is None
    assert json.loads(json.dumps(other, allow_nan=False))["psnr"] == pytest.approx(0)


@pytest.mark.parametrize(
    "shapes", [((4, 4, 4), (4, 4, 5)), ((4,), (4,)), ((1, 4, 4, 4), (1, 4, 4, 4)), ((0, 4, 4),) * 2]
)
def test_other_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="cannot compare"):
        fidelity(np.zeros(shapes[0]), np.zeros(shapes[1]), units="")


def test_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="data_range"):
        fidelity(*pair(), units="", data_range=(1.0, 1.0))


def test_memory_is_that_of_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_SLAB", 1 << 16)
    source = np.random.default_rng(0).integers(0, 1000, (256, 128, 128)).astype(np.int16)
    tracemalloc.start()
    try:
        fidelity(source, source + 1, units="HU")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < source.nbytes + 40 * 4 * (1 << 16)
