"""Scores and volumes of a small scan, made up."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from medrecon.evaluation.scores import (
    AtlasVolumes,
    Control,
    LayerScore,
    OutputKept,
    RegionError,
    ScanScores,
    Spectrum,
    Told,
)

SHAPE = (40, 36, 20)
SPACING = (1.5, 1.5, 3.0)
AFFINE = np.array([[-1.5, 0, 0, 30], [0, -1.5, 0, 25], [0, 0, 3.0, -40], [0, 0, 0, 1]])

HOSTILE = (
    "<img src=x onerror=alert(1)>^</script><script>alert(2)</script>{{7*7}} $(x) a\u202etxt.exe\u2028\x1b[31m"
)


def controls(psnr: float) -> tuple[Control, ...]:
    return (
        Control("identity", math.inf, 1.0, 0.0),
        Control("linear code", psnr - 1.2, 0.8, 31.0),
        Control("mean image", 15.0, 0.1, 400.0),
    )


def layer(name: str, psnr: float = 33.0, **changes: object) -> LayerScore:
    values: dict[str, object] = {
        "layer": name,
        "channels": 16,
        "stride": (2, 2, 1),
        "values_per_voxel": 0.25,
        "bits_per_voxel": 1.5,
        "mae": 12.34,
        "rmse": 23.4,
        "bias": -1.26,
        "psnr": psnr,
        "ssim": 0.912,
        "ms_ssim": 0.95,
        "normalised_error": 0.08,
        "data_range": 4095.0,
        "regions": {"body": RegionError(12345, 20.0, 30.0, -2.0), "bone": RegionError(120, 50.0, 70.0, 8.0)},
        "spectrum": Spectrum((0.05, 0.1, 0.2, 0.3), (0.01, 0.2, 0.7, 0.95), 0.15),
        "there": Control(name, psnr, 0.9, 12.0),
        "controls": controls(psnr),
        "codecs": {"JPEG 2000": 0.112, "JPEG-LS": None},
        "consistency": 0.2,
        "coverage": 0.884,
        "interval": 25.0,
        "seconds": 1.5,
        "told": Told(0.8, 0.7, 0.6, 0.5, 0.5, 2, 900),
        "output": OutputKept(0.4, 0.8, {"1": 0.8}),
    }
    return LayerScore(**{**values, **changes})  # type: ignore[arg-type]


def scan(*layers: LayerScore, **changes: object) -> ScanScores:
    values: dict[str, object] = {
        "key": "0a1b2c3d",
        "label": "CT chest",
        "modality": "CT",
        "units": "HU",
        "shape": SHAPE,
        "spacing": SPACING,
        "window": (-160.0, 240.0),
        "noise": 20.0,
        "layers": layers or (layer("level1", 41.0), layer("level3", 29.0)),
        "codec_curves": {"JPEG 2000": ((0.1, 28.0), (0.5, 35.0), (4.0, math.inf))},
        "facts": {"model": "volume_autoencoder", "weights_sha256": "8f" * 32},
        "warnings": ("3 voxels were clipped",),
    }
    return ScanScores(**{**values, **changes})  # type: ignore[arg-type]


def volumes(scores: ScanScores | None = None, shape: tuple[int, int, int] = SHAPE) -> AtlasVolumes:
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    noise = np.random.default_rng(5).normal(0, 20, shape)
    source = (np.where(x**2 + y**2 + 0 * z < 0.7, 40, -1000) + noise).astype(np.int16)
    source[(x - 0.3) ** 2 + y**2 + 0.2 * z**2 < 0.05] = 700
    names = [each.layer for each in (scores or scan()).layers]
    blurred = {n: gaussian_filter(source.astype(np.float32), 0.6 + k) for k, n in enumerate(names)}
    unsure: dict[str, np.ndarray | None] = {n: np.abs(v - source) for n, v in blurred.items()}
    return AtlasVolumes(source, AFFINE, blurred, unsure, dict.fromkeys(names))
