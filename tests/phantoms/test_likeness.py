"""Random volumes are like real scans in the numbers that a network sees: spectrum, spread and noise."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.phantoms import random_volume

REAL = {
    "CT": ("ct_torso_totalseg_3mm.nii.gz", "ct_heart_contrast_totalseg_1p5mm.nii.gz"),
    "MR": ("mr_t1_head_seg3d.nii.gz", "mr_pd_head_chris_niivue.nii.gz", "mr_t2_head_niivue.nii.gz"),
}
BANDS = ((0.08, 0.16), (0.16, 0.32), (0.32, 0.5), (0.5, 0.7))


def scaled(volume: np.ndarray, modality: str) -> np.ndarray:
    if modality == "CT":
        return (np.clip(volume, -1024, 3071) + 1024) / 4095
    low, high = np.percentile(volume, (0.5, 99.5))
    return (volume - low) / (high - low + 1e-6)


def features(patch: np.ndarray) -> list[float]:
    """log10 of the power in each band of the X-Y plane, of the standard deviation, of the noise."""
    window = np.hanning(patch.shape[0])[:, None, None] * np.hanning(patch.shape[1])[None, :, None]
    flat = patch - patch.mean((0, 1), keepdims=True)
    power = (np.abs(np.fft.fft2(flat * window, axes=(0, 1))) ** 2).mean(2) / (window**2).sum()
    frequency = 2 * np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in patch.shape[:2]), indexing="ij"))
    bands = [power[(frequency >= a) & (frequency < b)].mean() for a, b in BANDS]
    twice = patch[:-1, :-1] - patch[1:, :-1] - patch[:-1, 1:] + patch[1:, 1:]
    return [float(np.log10(v + 1e-9)) for v in (*bands, patch.std(), np.median(np.abs(twice)) + 1e-4)]


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_medians_lie_near_those_of_real_scans(shared_dir: Path, modality):
    rng = np.random.default_rng(0)
    real = []
    for name in REAL[modality]:
        volume = scaled(
            np.asarray(nib.load(shared_dir / "data" / "real" / name).dataobj, np.float32), modality
        )
        for _ in range(20):
            corner = [
                int(rng.integers(0, n - m + 1)) for n, m in zip(volume.shape, (64, 64, 16), strict=True)
            ]
            x, y, z = (slice(c, c + m) for c, m in zip(corner, (64, 64, 16), strict=True))
            real.append(volume[x, y, z])
    made = []
    for i in range(30):
        volume, _ = random_volume((64, 64, 16), np.random.default_rng([4, i]), modality)
        made.append(scaled(volume, modality))
    of_real, of_made = (
        np.median([features(p) for p in patches if p.std() > 5e-3], axis=0) for patches in (real, made)
    )
    assert np.abs(of_real - of_made).max() < 0.75, (of_real, of_made)
