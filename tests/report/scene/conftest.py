"""Scores and volumes of a small scan, and a Python with 3D Slicer's code."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable

import numpy as np
import pytest

from medrecon.evaluation.scores import AtlasVolumes, Control, LayerScore, ScanScores, Spectrum

Made = tuple[ScanScores, AtlasVolumes]


def oblique(spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)) -> np.ndarray:
    """An affine turned about two axes, columns left, posterior, superior as in a DICOM series."""
    a, b = np.deg2rad([11.0, -7.0])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, -1.0, 1.0]) @ np.diag(spacing)
    affine[:3, 3] = (91.123456, -47.654321, 1033.333333)
    return affine


def layer_score(name: str, **changes: object) -> LayerScore:
    """A layer's score with made-up figures."""
    values = {
        "layer": name,
        "channels": 8,
        "stride": (2, 2, 2),
        "values_per_voxel": 0.5,
        "bits_per_voxel": 4.0,
        "mae": 6.5,
        "rmse": 9.25,
        "bias": -0.125,
        "psnr": 40.5,
        "ssim": 0.975,
        "ms_ssim": float("nan"),
        "normalised_error": 0.1,
        "data_range": 4095.0,
        "regions": {},
        "spectrum": Spectrum((0.1, 0.2), (0.01, 0.6), 0.2),
        "there": Control("level1", 40.0, 0.97, 5.0),
        "controls": (Control("mean image", 12.0, 0.1, 300.0),),
        "codecs": {"JPEG 2000": 0.25, "JPEG-LS": None},
        "consistency": 0.05,
        "coverage": None,
        "interval": None,
        "seconds": 1.0,
        **changes,
    }
    return LayerScore(**values)  # type: ignore[arg-type]


@pytest.fixture
def make_atlas() -> Callable[..., Made]:
    """Makes scores and volumes: `make_atlas(layers=2, units="HU", ...)`."""

    def make(
        layers: int | list[str] = 2,
        *,
        shape: tuple[int, int, int] = (14, 12, 7),
        units: str = "HU",
        affine: np.ndarray | None = None,
        label: str = "CT abdomen",
        maps: bool = False,
        facts: dict[str, str] | None = None,
    ) -> Made:
        rng = np.random.default_rng(0)
        names = [f"level{n + 1}" for n in range(layers)] if isinstance(layers, int) else layers
        affine = oblique() if affine is None else affine
        source = np.linspace(-900, 1100, shape[0])[:, None, None] + rng.normal(0, 30, shape)
        source = np.rint(source) if units == "HU" else source / 1000
        noise = 12.0 if units == "HU" else 0.012
        results = {n: source + rng.normal(0, noise * (i + 1), shape) for i, n in enumerate(names)}
        scores = ScanScores(
            key="0123abcd",
            label=label,
            modality="CT" if units == "HU" else "MR",
            units=units,
            shape=shape,
            spacing=tuple(np.linalg.norm(affine[:3, :3], axis=0)),
            window=(-160.0, 240.0) if units == "HU" else (-0.5, 0.75),
            layers=tuple(layer_score(name) for name in names),
            noise=12.0,
            codec_curves={},
            facts={"model": "volume_autoencoder", "weights_sha256": "00ff"} if facts is None else facts,
            warnings=("one thing",),
        )
        spread = {n: np.abs(rng.normal(0, noise, shape)).astype(np.float32) if maps else None for n in names}
        volumes = AtlasVolumes(
            source.astype(np.float32),
            affine,
            {n: v.astype(np.float32) for n, v in results.items()},
            spread,
            dict(spread),
        )
        return scores, volumes

    return make


@pytest.fixture(scope="session")
def slicer() -> str:
    """A Python that has slicer-core; skips where there is none."""
    python = os.environ.get("MEDRECON_SLICER_PYTHON")
    if python:
        return python
    if importlib.util.find_spec("slicer_core"):
        return sys.executable
    pytest.skip("no 3D Slicer here: set MEDRECON_SLICER_PYTHON to a Python with slicer-core and numpy")
