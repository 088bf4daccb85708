"""A scan through a network on the shipped path, the linear control beside it, and what each kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import torch
from common import short_name
from monai.data import MetaTensor

from medrecon.bundle.config import Bundle
from medrecon.contract import LayerInfo
from medrecon.encoders import DeepbetEncoder
from medrecon.evaluation import Fidelity, dct_code, fidelity
from medrecon.evaluation.msssim import MultiScaleSSIM
from medrecon.intensity_range import intensity_range
from medrecon.io import Scan, read_scan
from medrecon.losses import PerceptualLoss
from medrecon.reconstructor import INPUT, parse_layers
from medrecon.transforms import ScanIntensity

_AT_ONCE = 1 << 28  # voxels of results held at a time


@dataclass(frozen=True)
class Volume:
    """The voxels of a scan, or the middle of them, as `medrecon.io.read_scan` gives them.

    Attributes:
        name: for tables.
        modality: "CT" for HU; else what the file says, or what was told for files that do not say.
        units: "HU" or "".
        values: (X, Y, Z).
        spacing: mm.
    """

    name: str
    modality: str
    units: str
    values: np.ndarray
    spacing: tuple[float, float, float]


def load(scan: Scan, crop: Sequence[int] | None = None, unstated: str = "MR") -> Volume:
    """Read a scan; keep the middle of it where a crop is given."""
    values = read_scan(scan)
    if crop:
        starts = [max(0, (n - c) // 2) for n, c in zip(values.shape, crop, strict=True)]
        values = values[tuple(slice(s, s + c) for s, c in zip(starts, crop, strict=True))]
    modality = "CT" if scan.units == "HU" else scan.modality or unstated
    return Volume(short_name(scan.path), modality, scan.units, np.ascontiguousarray(values), scan.spacing)


def open_network(bundle: str | Path, weights: Sequence[str] = (), device: str = "cpu") -> tuple[Any, Any]:
    """A bundle's network with its trained weights, and the inferer that its inference.yaml names.

    Args:
        bundle: name or folder.
        weights: BUNDLE=FILE, weights to take instead of the bundle's own.
        device: where the network runs.
    """
    overrides: dict[str, Any] = {"device": device}
    for name, _, file in (text.partition("=") for text in weights):
        if name == Path(bundle).name:
            overrides["weights"] = Path(file)
    opened = Bundle.open(bundle, overrides)
    return opened.build("network"), opened.build("inferer")


def reconstruct(
    volume: Volume, network: Any, inferer: Any, results: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each result in the scan's units; whole numbers where the scan holds no others, as in files written."""
    intensity = ScanIntensity()
    source = MetaTensor(torch.from_numpy(volume.values)[None], meta={"units": volume.units})
    scaled = intensity(source)
    group = max(1, _AT_ONCE // volume.values.size)
    for first in range(0, len(results), group):
        inferer.results = list(results[first : first + group])
        with torch.inference_mode():
            pred = inferer(scaled.as_tensor()[None], network)[0]
            back = intensity.inverse(MetaTensor(pred).copy_meta_from(scaled)).as_tensor().numpy()
        for name, values in zip(inferer.results, back, strict=True):
            yield name, as_stored(values, volume)


def as_stored(values: np.ndarray, volume: Volume) -> np.ndarray:
    """Round to whole numbers where the source holds nothing else."""
    return np.rint(values) if volume.values.dtype.kind in "iu" else values


def control(volume: Volume, layers: Sequence[LayerInfo], result: str) -> np.ndarray:
    """The linear code of as many values as a result: the lowest frequencies of DCT blocks of 16.

    Blocks of 16 x 16 x 16, of slices 16 x 16 where the layers are of two dimensions. A result of several
    layers has the sum of their values to spend; from one value per voxel on, the code is exact.
    """
    rate = min(1.0, rate_of(layers, result) or 1.0)
    return low_frequencies(volume, len(layers[0].stride), rate)


def low_frequencies(volume: Volume, dims: int, rate: float, size: int = 16) -> np.ndarray:
    """The lowest frequencies of DCT blocks of `size` along each axis, slice by slice where `dims` is 2."""
    return as_stored(dct_code(floored(volume), rate, (size, size, size if dims == 3 else 1)), volume)


def floored(volume: Volume) -> np.ndarray:
    """The values as a network gets them: HU below the window count as its low end."""
    return np.maximum(volume.values, -1024) if volume.units == "HU" else volume.values


def rate_of(layers: Sequence[LayerInfo], result: str) -> float | None:
    """Values per voxel that a result holds; None for the control without a network."""
    if result == INPUT:
        return None
    known = {layer.name: layer.values_per_voxel for layer in layers}
    return sum(known[name] for name in parse_layers(result))


def score(volume: Volume, recon: np.ndarray) -> Fidelity:
    """medrecon's own measure, on the whole volume."""
    return fidelity(volume.values, recon, units=volume.units, spacing=volume.spacing)


class Judge:
    """Perceptual distance of two volumes by deepbet's 3D brain network, which is in no loss of ours.

    Args:
        weights: its file.
        device: where it runs.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        encoder = DeepbetEncoder(weights=weights)
        layers = [layer.name for layer in encoder.layers()][:4]
        self.distance = PerceptualLoss(encoder, layers=layers).to(device).eval()
        self.device = device

    def __call__(self, volume: Volume, recon: np.ndarray) -> float:
        """The distance of a reconstruction from its source; 0 where they are equal."""
        low, high = intensity_range(volume.values, volume.units)
        both = [torch.from_numpy(np.asarray(x, np.float32)) for x in (recon, floored(volume))]
        images = [((x - low) / (high - low))[None, None].to(self.device) for x in both]
        with torch.inference_mode():
            return float(self.distance(*images))


BANDS = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Ends of the bands of spatial frequency, in cycles per voxel."""


def error_by_frequency(volume: Volume, recon: np.ndarray, dims: int) -> list[float]:
    """Power of the error over power of the source in each of `BANDS`: 0 kept, 1 as bad as leaving it out.

    Radial over the axes that the network sees (in the plane where it is 2D), under a Hann window; the mean is
    left out.
    """
    axes = (0, 1, 2)[:dims]
    source = np.asarray(floored(volume), np.float32)
    source = source - source.mean()
    error = np.asarray(recon, np.float32) - floored(volume)
    window = np.ones((1, 1, 1), np.float32)
    squared: Any = 0.0
    for axis in axes:
        shape = [-1 if other == axis else 1 for other in range(3)]
        n = volume.values.shape[axis]
        window = window * np.hanning(n + 2)[1:-1].astype(np.float32).reshape(shape)
        squared = squared + (np.fft.fftfreq(n).astype(np.float32).reshape(shape)) ** 2
    band = np.digitize(np.sqrt(squared), BANDS[1:])
    band = np.broadcast_to(band, volume.values.shape).ravel()
    power = []
    for values in (error, source):
        spectrum = np.abs(scipy.fft.fftn(values * window, axes=axes)) ** 2
        power.append(np.bincount(band, spectrum.ravel(), minlength=len(BANDS))[: len(BANDS) - 1])
    return [float(e / s) if s else 0.0 for e, s in zip(*power, strict=True)]


def score_fully(volume: Volume, recon: np.ndarray) -> dict[str, Any]:
    """The same as plain values, with MS-SSIM and the MAE in per cent of the range."""
    made: list[MultiScaleSSIM] = []

    def both(shape: tuple[int, int, int]) -> MultiScaleSSIM:
        made.append(MultiScaleSSIM(shape))
        return made[-1]

    got = fidelity(volume.values, recon, units=volume.units, spacing=volume.spacing, similarity=both)
    width = got.data_range[1] - got.data_range[0]
    return {**got.to_dict(), "ms_ssim": made[-1].value, "mae_percent": 100 * got.mae / width}
