"""Random fields: smooth, fractal and band-limited noise, made at low resolution and brought up by products.

A cubic B-spline through a coarse lattice of normal numbers is a smooth random field (Perlin's idea, "An image
synthesizer", 1985, with splines). On a regular grid it is three small matrix products, which is what makes it
fast enough to feed a training run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import fft, ndimage


def spline_matrix(size: int, step: float, phase: float) -> np.ndarray:
    """Cubic B-spline weights from a lattice of spacing `step` (in voxels) to `size` voxels.

    Returns:
        (size, lattice points) float32; each row has length one in the Euclidean norm, so that a lattice of
        independent unit normals gives unit variance at each voxel.
    """
    position = np.arange(size, dtype=np.float32) / step + phase
    first = np.floor(position).astype(int)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    matrix = np.zeros((size, int(first[-1]) + 4), np.float32)
    rows = np.arange(size)[:, None]
    matrix[rows, first[:, None] + np.arange(4)] = weights
    return matrix


def separable(volume: np.ndarray, matrices: Sequence[np.ndarray | None]) -> np.ndarray:
    """Multiply a (X, Y, Z) volume by one matrix along each axis; None leaves an axis as it is.

    By torch, which keeps to one thread in the workers of a data loader, where numpy's BLAS does not.
    """
    out = torch.from_numpy(volume)
    along_x, along_y, along_z = (None if m is None else torch.from_numpy(m) for m in matrices)
    if along_z is not None:
        out = out @ along_z.T
    if along_y is not None:
        out = along_y @ out
    if along_x is not None:
        out = (along_x @ out.reshape(out.shape[0], -1)).reshape(-1, *out.shape[1:])
    return out.numpy()


def smooth_noise(
    shape: Sequence[int], step: Sequence[float] | np.ndarray, rng: np.random.Generator, *, band: bool = False
) -> np.ndarray:
    """Smooth noise of zero mean and about unit variance.

    Args:
        shape: (X, Y, Z).
        step: lattice spacing along each axis in voxels: about half the shortest wavelength.
        rng: the only source of randomness.
        band: take the slow part away, so that the zero set is made of evenly spaced sheets.

    Returns:
        (X, Y, Z) float32.
    """
    matrices: list[np.ndarray | None] = []
    lattice = []
    for size, spacing in zip(shape, step, strict=True):
        phase = float(rng.random())
        if spacing <= 1.0:
            matrices.append(None)
            lattice.append(size)
        else:
            matrices.append(spline_matrix(size, spacing, phase))
            lattice.append(matrices[-1].shape[1])  # type: ignore[union-attr]
    values = rng.standard_normal(lattice, dtype=np.float32)
    if band:
        values -= ndimage.uniform_filter(values, 3, mode="mirror")
        values *= 1.02
    return separable(values, matrices)


def fractal_noise(
    shape: Sequence[int],
    step: Sequence[float] | np.ndarray,
    rng: np.random.Generator,
    *,
    octaves: int = 3,
    roughness: float = 0.6,
) -> np.ndarray:
    """Sum of smooth noises, each half as long and `roughness` times as strong as the one before.

    Returns:
        (X, Y, Z) float32 of about unit variance.
    """
    total = np.zeros(shape, np.float32)
    power = 0.0
    for octave in range(octaves):
        weight = roughness**octave
        total += weight * smooth_noise(shape, [s / 2**octave for s in step], rng)
        power += weight**2
    return total / np.float32(np.sqrt(power))


def ramp_noise(
    shape: Sequence[int], cutoff: float, rng: np.random.Generator, *, low: float = 0.03, power: float = 2.0
) -> np.ndarray:
    """Noise as filtered back-projection leaves it in the X-Y plane: f * rolloff(f), white along Z.

    The spectrum of CT noise rises like the ramp filter and falls with the kernel's roll-off (Riederer,
    Pelc & Chesler, Phys Med Biol 1978).

    Args:
        shape: (X, Y, Z); X and Y span the slice.
        cutoff: where the roll-off has fallen to 1/e, in units of the Nyquist frequency.
        rng: the only source of randomness.
        low: floor of the ramp at zero frequency (a real spectrum does not vanish there).
        power: steepness of the roll-off; 2 is Gaussian.

    Returns:
        (X, Y, Z) float32 of unit variance.
    """
    white = rng.standard_normal((shape[2], shape[0], shape[1]), dtype=np.float32)
    spectrum = fft.rfft2(white)
    frequency = 2 * np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    gain = np.sqrt(low + frequency) * np.exp(-((frequency / cutoff) ** power))
    spectrum *= gain.astype(np.float32)
    noise = fft.irfft2(spectrum, s=(shape[0], shape[1]), overwrite_x=True)
    weight = np.ones(gain.shape[1])
    weight[1 : (shape[1] + 1) // 2] = 2
    scale = np.sqrt(shape[0] * shape[1] / (gain**2 * weight).sum())
    return np.ascontiguousarray(np.moveaxis(noise, 0, 2)) * np.float32(scale)
