"""What the scanner does to the anatomy: blur, noise, artefacts, thick slices, the numbers it stores."""

from __future__ import annotations

import numpy as np

from medrecon.phantoms.noise import ramp_noise, separable, smooth_noise


def blur_matrix(size: int, sigma: float, sharpen: float = 0.0) -> np.ndarray:
    """(size, size) Gaussian blur, with some unsharp masking as sharp CT kernels have; edges repeat."""
    distance = np.arange(size, dtype=np.float32)
    offset = distance[:, None] - distance
    rows = np.exp(-0.5 * np.square(offset / max(sigma, 1e-3)))
    rows /= rows.sum(1, keepdims=True)
    if sharpen > 0:
        wide = np.exp(-0.5 * np.square(offset / (sigma + 0.9)))
        wide /= wide.sum(1, keepdims=True)
        rows = (1 + sharpen) * rows - sharpen * wide
    return rows.astype(np.float32)


def fourier_matrix(size: int, cutoff: float, apodise: float) -> np.ndarray:
    """(size, size) k-space truncation at `cutoff` of the Nyquist frequency, softened over `apodise` (0 to 1).

    A cutoff below one is a scanner that fills k-space up with zeros; the sharp edge gives Gibbs ringing.
    """
    frequency = np.abs(np.fft.fftfreq(2 * size)) * 2
    start = cutoff * (1 - apodise)
    window = np.cos(np.clip((frequency - start) / max(cutoff - start, 1e-6), 0, 1) * np.pi / 2)
    window *= frequency <= cutoff
    kernel = np.fft.ifft(window).real
    offset = np.arange(size)[:, None] - np.arange(size)
    rows = kernel[offset % (2 * size)]
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def acquire_ct(
    image: np.ndarray, outline: np.ndarray, rng: np.random.Generator, spacing: np.ndarray
) -> np.ndarray:
    """Blur by a random kernel, add its noise and streaks, store whole HU with a random padding.

    Args:
        image: (X, Y, Z) float32, HU; Z is the slice axis.
        outline: implicit function of the body (negative inside, about mm).
        rng: the only source of randomness.
        spacing: mm.
    """
    shape = image.shape
    sharp = rng.random() < 0.3
    sigma = rng.uniform(0.2, 0.5) if sharp else rng.uniform(0.2, 0.75)
    matrix = [blur_matrix(n, sigma, rng.uniform(0.2, 0.9) if sharp else 0.0) for n in shape[:2]]
    along = blur_matrix(shape[2], rng.uniform(0.3, 0.7)) if rng.random() < 0.4 else None
    out = separable(image, [*matrix, along])
    level = float(np.exp(rng.normal(3.65 if sharp else 2.95, 0.6)))
    cutoff = rng.uniform(0.7, 1.4) if sharp else rng.uniform(0.5, 1.3)
    noise = ramp_noise(shape, cutoff, rng, low=rng.uniform(0.01, 0.1))
    if along is not None:
        noise = separable(noise, [None, None, along])
        noise /= noise.std() + np.float32(1e-6)
    depth = np.clip(outline * np.float32(-1 / 120), -0.5, 1)
    noise *= (np.float32(0.75) + np.float32(0.5) * depth) * np.float32(level)
    if rng.random() < 0.15:
        noise += _streaks(shape, rng, float(rng.uniform(10, 80)))
    out += noise
    np.rint(out, out=out)
    np.clip(out, -1024, 3071, out=out)
    if rng.random() < 0.25:
        u = (np.arange(shape[0]) - rng.uniform(0.3, 0.7) * shape[0])[:, None]
        v = np.arange(shape[1]) - rng.uniform(0.3, 0.7) * shape[1]
        padding = rng.choice([-1024.0, -1024.0, -2000.0, -2048.0, -3024.0])
        out[np.hypot(u, v) > rng.uniform(0.5, 0.75) * min(shape[:2])] = padding
    return out


def _streaks(shape: tuple[int, ...], rng: np.random.Generator, level: float) -> np.ndarray:
    """Bright and dark rays from a piece of metal, fading along Z."""
    u = (np.arange(shape[0], dtype=np.float32) - np.float32(rng.random() * shape[0]))[:, None]
    v = np.arange(shape[1], dtype=np.float32) - np.float32(rng.random() * shape[1])
    angle = np.arctan2(v, u)
    rays = np.zeros((shape[0], shape[1]), np.float32)
    for _ in range(6):
        rays += np.cos(int(rng.integers(2, 28)) * angle + np.float32(rng.uniform(0, 6.3)))
    rays *= np.float32(level / 2) / (1 + np.hypot(u, v) / np.float32(0.25 * shape[0]))
    z = (np.arange(shape[2]) - rng.random() * shape[2]) / (0.3 * shape[2])
    return rays[:, :, None] * np.exp(-(z**2)).astype(np.float32)


def acquire_mr(image: np.ndarray, rng: np.random.Generator, spacing: np.ndarray) -> np.ndarray:
    """Coil bias, k-space truncation, Rician noise (Gudbjartsson & Patz, MRM 1995); units about as given."""
    shape = image.shape
    extent = np.array(shape) * spacing
    bias = smooth_noise(shape, rng.uniform(60, 160) * np.array(shape) / extent, rng)
    out = image * np.exp(np.float32(rng.uniform(0.05, 0.35)) * bias)
    filled = rng.random() < 0.4
    matrices = []
    for axis, size in enumerate(shape):
        cutoff = rng.uniform(0.55, 1.0) if filled and axis < 2 else rng.uniform(0.9, 1.05)
        skip = axis == 2 and rng.random() < 0.6
        matrices.append(None if skip else fourier_matrix(size, cutoff, rng.uniform(0.1, 0.7)))
    out = separable(out, matrices)
    level = np.float32(np.exp(rng.normal(-3.7, 0.7)))
    real = separable(rng.standard_normal(shape, dtype=np.float32), matrices)
    scale = level / (real.std() + np.float32(1e-6))
    out += scale * real
    other = separable(rng.standard_normal(shape, dtype=np.float32), matrices)
    other *= scale
    np.square(other, out=other)
    other += np.square(out)
    return np.sqrt(other, out=other)


def store_mr(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale to the whole numbers that a scanner or converter stores: 8 bit by one in three, else 9 to 12."""
    top = float(image.max()) + 1e-6
    if rng.random() < 0.33:
        strong = float(np.quantile(image[::3, ::3, ::3], 0.998)) + 1e-6
        return np.clip(np.rint(image * (255 / min(top, strong * rng.uniform(1.0, 1.4)))), 0, 255)
    return np.rint(image * np.float32(rng.uniform(400, 4095) / top))
