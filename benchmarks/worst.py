"""Where a level is worst: of each scan the place with the largest error, its source and its signed error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter
from scoring import Volume

SIDE = 24  # voxels of a worst place along each axis
_SHOWN = 96  # voxels of the picture along each axis


@dataclass(frozen=True)
class Place:
    """The worst place of a scan, and the slice through it.

    Attributes:
        scan, modality, units: of the scan.
        start, stop: voxels of the place along each axis.
        rmse: within the place, in units; `rmse_percent` of the range of the PSNR.
        source, recon: (X, Y), part of the slice around the place.
        corner: of the place within the part.
        aspect: height over width of a voxel.
    """

    scan: str
    modality: str
    units: str
    start: tuple[int, ...]
    stop: tuple[int, ...]
    rmse: float
    rmse_percent: float
    source: np.ndarray
    recon: np.ndarray
    corner: tuple[int, int]
    aspect: float

    def facts(self) -> dict[str, Any]:
        """All but the pictures."""
        names = ("scan", "modality", "units", "start", "stop", "rmse", "rmse_percent")
        return {name: getattr(self, name) for name in names}


def find_worst(
    volume: Volume, recon: np.ndarray, dims: int, width: float, data_range: tuple[float, float]
) -> Place:
    """The place of `SIDE` voxels along each axis (of one slice where `dims` is 2) with the largest error.

    Args:
        volume: the source.
        recon: the same shape.
        dims: of the network.
        width: of the range of the PSNR.
        data_range: what is clipped for HU, as the PSNR clips.
    """
    pair = [np.asarray(v, dtype=np.float32) for v in (volume.values, recon)]
    if volume.units == "HU":
        pair = [np.clip(v, *data_range) for v in pair]
    shape = pair[0].shape
    sides = [min(SIDE, n) for n in shape]
    if dims == 2:
        sides[2] = 1
    squares = np.square(pair[1] - pair[0])
    means = uniform_filter(squares, size=sides, mode="constant")
    # where the filter's windows lie inside of the volume
    inside = tuple(slice(s // 2, s // 2 + n - s + 1) for s, n in zip(sides, shape, strict=True))
    best = np.unravel_index(int(means[inside].argmax()), means[inside].shape)
    start = tuple(int(k) for k in best)
    stop = tuple(k + s for k, s in zip(start, sides, strict=True))
    within = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    worst = squares[within]
    k = start[2] + int(worst.mean(axis=(0, 1)).argmax())
    low = [
        max(0, min((a + b) // 2 - _SHOWN // 2, n - _SHOWN))
        for a, b, n in zip(start, stop, shape, strict=True)
    ]
    part = (slice(low[0], low[0] + _SHOWN), slice(low[1], low[1] + _SHOWN), k)
    rmse = float(np.sqrt(worst.mean(dtype=np.float64)))
    return Place(
        scan=volume.name,
        modality=volume.modality,
        units=volume.units,
        start=start,
        stop=stop,
        rmse=rmse,
        rmse_percent=100 * rmse / width,
        source=pair[0][part].copy(),
        recon=pair[1][part].copy(),
        corner=(start[0] - low[0], start[1] - low[1]),
        aspect=volume.spacing[1] / volume.spacing[0],
    )


def draw(places: list[Place], title: str, file: Path) -> None:
    """A row for each scan: source, reconstruction, signed error, the worst place framed; one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(10, 3.2 * len(places) + 0.4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    rows = figure.subplots(len(places), 3, squeeze=False)
    for axes, place in zip(rows, places, strict=True):
        error = place.recon - place.source
        low, high = np.percentile(place.source, (0.5, 99.5))
        high = max(high, low + 1e-6)
        most = max(float(np.percentile(np.abs(error), 99.8)), 1e-6)
        shown = [(place.source, "gray", low, high), (place.recon, "gray", low, high)]
        shown.append((error, "RdBu_r", -most, most))
        for axis, (values, colours, bottom, top) in zip(axes, shown, strict=True):
            drawn = axis.imshow(
                values.T,
                cmap=colours,
                vmin=bottom,
                vmax=top,
                aspect=place.aspect,
                interpolation="nearest",
                origin="upper",
            )
            sides = (place.stop[0] - place.start[0], place.stop[1] - place.start[1])
            corner = (place.corner[0] - 0.5, place.corner[1] - 0.5)
            axis.add_patch(Rectangle(corner, *sides, fill=False, edgecolor="gold", linewidth=1))
            axis.set_xticks([])
            axis.set_yticks([])
            figure.colorbar(drawn, ax=axis, shrink=0.75)
        unit = f" {place.units}" if place.units else f" = {place.rmse_percent:.1f} % of the range"
        axes[0].set_title(f"{place.scan}\nsource", fontsize=8)
        axes[1].set_title(f"voxels {place.start} to {place.stop}\nreconstruction", fontsize=8)
        axes[2].set_title(f"RMSE in the frame {place.rmse:.4g}{unit}\nsigned error", fontsize=8)
    figure.savefig(file)
