"""The project's main picture: a scan, what each layer gives back, and the error of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medrecon.errors import UsageError
from medrecon.evaluation import fidelity
from medrecon.intensity_range import HU_WINDOW, intensity_range
from medrecon.report.planes import Plane, View, body_threshold, make_view
from medrecon.report.scene_values import round_up
from medrecon.report.style import ERROR_MAP, FAINT, INK, bare_axes, new_figure, save

SOFT_TISSUE = (-160.0, 240.0)
"""HU: level 40, width 400."""

_WIDTH, _GAP, _EDGE, _HEAD, _BETWEEN = 8.6, 0.045, 0.1, 0.56, 0.12
_EM = 0.72
"""Width of a bold letter over the size of its font, at most on average."""


def layers_figure(
    source: np.ndarray,
    results: Mapping[str, np.ndarray],
    spacing: Sequence[float],
    units: str,
    path: str | Path,
    *,
    affine: np.ndarray | None = None,
    values_per_voxel: Mapping[str, float] | None = None,
    psnr: Mapping[str, float | None] | None = None,
    planes: Sequence[Plane] = ("axial", "coronal"),
    window: tuple[float, float] | None = None,
    error_limit: float | None = None,
    at: Sequence[int] | None = None,
) -> list[Path]:
    """Draw the source, each layer's reconstruction in the same window, and the signed error beneath each.

    Slices are in radiological convention (patient's right on the left), in true proportions, cut to the body.
    One error scale holds for all results.

    Args:
        source: (X, Y, Z) in `units`.
        results: name -> reconstruction of the same shape and units, in the order of the columns.
        spacing: mm along X, Y, Z.
        units: "HU", or the source's ("" where arbitrary).
        path: a .png or .svg file; both are written for a path without suffix.
        affine: (4, 4) voxel index -> RAS mm, for the orientation; an axial DICOM series is assumed without.
        values_per_voxel: name -> feature values kept for each voxel, for the titles.
        psnr: name -> PSNR in dB of the whole volume, for the titles; measured here where not given.
        planes: what is shown, from the top.
        window: the values shown black and white; soft tissue for HU, the robust range otherwise.
        error_limit: the largest error of the colour scale; from the worst result's shown errors otherwise.
        at: the voxel (X, Y, Z) whose planes are shown; the middle of the body otherwise.

    Returns:
        The files written.

    Raises:
        UsageError: no results, or one of another shape than the source.
        OutputError: the file cannot be written.
    """
    if not results or any(np.shape(v) != source.shape for v in results.values()) or source.ndim != 3:
        raise UsageError(
            f"cannot draw {', '.join(results) or 'no results'} beside a source of shape {source.shape}",
            remedy="give at least one reconstruction, each (X, Y, Z) on the source's grid",
        )
    low, high = intensity_range(source, units)
    view = make_view(source, spacing, affine, at, body_threshold(source, units))
    psnr = psnr or {name: fidelity(source, v, units=units).psnr for name, v in results.items()}
    window = window or (SOFT_TISSUE if units == "HU" else (low, high))
    captions = [_caption(n, (values_per_voxel or {}).get(n), psnr.get(n)) for n in results]

    column = (_WIDTH - 2 * _EDGE - len(results) * _GAP) / (1 + len(results))
    heights = [column * view.size(p)[1] / view.size(p)[0] for p in planes]
    total = _HEAD + _EDGE - _BETWEEN + sum(2 * h + _GAP + _BETWEEN for h in heights)
    figure = new_figure(_WIDTH, total)
    grid = f"{_times(source.shape)} voxels", f"{_times(spacing)} mm"
    for place, caption in enumerate([("source", *grid), *captions]):
        _head(figure, place, column, caption)
    cuts = {p: [cut_of(view, v, p, units) for v in (source, *results.values())] for p in planes}
    limit = error_limit or colour_limit([image - row[0] for row in cuts.values() for image in row[1:]])
    top = total - _HEAD
    for plane, height in zip(planes, heights, strict=True):
        top -= 2 * height + _GAP
        for place, image in enumerate(cuts[plane]):
            left = _EDGE + place * (column + _GAP)
            axes = bare_axes(figure, left, top + height + _GAP, column, height)
            _show(axes, image, "gray", *window)
            if place == 0:
                _letters(axes, view, plane)
            else:
                axes = bare_axes(figure, left, top, column, height)
                _show(axes, image - cuts[plane][0], ERROR_MAP, -limit, limit)
        if plane == planes[0]:
            _scales(figure, top + height / 2, column, limit, window, units)
        top -= _BETWEEN
    return save(figure, path)


def _caption(name: str, rate: float | None, psnr: float | None) -> tuple[str, str, str]:
    quality = "" if psnr is None else ("identical" if math.isinf(psnr) else f"{psnr:.1f} dB")
    return name, "" if rate is None else rate_words(rate), quality


def rate_words(rate: float) -> str:
    """Say how many values a layer keeps for each voxel: "3/16 value/voxel", "2 values/voxel"."""
    share = Fraction(rate).limit_denominator(4096)
    if 0 < share < 1 and share.numerator <= 3 and math.isclose(share, rate, rel_tol=1e-6):
        return f"{share} value/voxel"
    return f"{rate:.3g} value{'' if rate == 1 else 's'}/voxel"


def _head(figure: Figure, place: int, column: float, lines: tuple[str, str, str]) -> None:
    width, height = figure.get_size_inches()
    x = (_EDGE + place * (column + _GAP)) / width
    name, rate, quality = lines
    size = min(8.5, 72 * column / (_EM * max(1, len(name))))
    figure.text(x, 1 - 0.2 / height, name, color=INK, fontsize=size, weight="bold", va="baseline")
    figure.text(x, 1 - 0.345 / height, rate, color=FAINT, fontsize=6.8, va="baseline")
    figure.text(x, 1 - 0.475 / height, quality, color=INK, fontsize=6.8, va="baseline")


def cut_of(view: View, volume: np.ndarray, plane: Plane, units: str) -> np.ndarray:
    """Cut one slice; HU below -1024 are padding, and are shown as -1024."""
    image = view.cut(np.asarray(volume), plane).astype(np.float32)
    return np.maximum(image, HU_WINDOW[0]) if units == "HU" else image


def colour_limit(errors: Sequence[np.ndarray]) -> float:
    """Find a round number that holds 98 of 100 errors of the worst slice."""
    return round_up(max(float(np.percentile(np.abs(e), 98)) for e in errors))


def _show(axes: Axes, image: np.ndarray, colours: str | Colormap, low: float, high: float) -> None:
    axes.imshow(
        image,
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="hanning",
        interpolation_stage="data",
    )


def _letters(axes: Axes, view: View, plane: Plane) -> None:
    """Mark the patient's sides, and a length: 5 cm, or 1 cm for small parts."""
    words: dict[str, Any] = {
        "color": INK,
        "transform": axes.transAxes,
        "path_effects": [withStroke(linewidth=1.6, foreground="black")],
    }
    left, right = view.edges(plane)
    axes.text(0.03, 0.96, left, fontsize=6.8, ha="left", va="top", **words)
    axes.text(0.97, 0.96, right, fontsize=6.8, ha="right", va="top", **words)
    width = view.size(plane)[0]
    bar = 50 if width > 120 else 10
    axes.plot([0.96 - bar / width, 0.96], [0.04, 0.04], lw=1.1, solid_capstyle="butt", **words)
    axes.text(0.96 - bar / width / 2, 0.06, f"{bar // 10} cm", fontsize=5.8, ha="center", **words)


def _scales(
    figure: Figure, middle: float, column: float, limit: float, window: tuple[float, float], units: str
) -> None:
    """Both scales, in the empty cell beneath the source: the greys above, the errors below."""
    unit = f" ({units})" if units else ""
    bars = (
        ("shown" + unit, "gray", window, middle + 0.24),
        ("reconstruction − source" + unit, ERROR_MAP, (-limit, limit), middle - 0.3),
    )
    width = column - 0.2
    for words, colours, (low, high), y in bars:
        axes = bare_axes(figure, _EDGE + 0.03, y, width, 0.09)
        axes.imshow(np.linspace(0, 1, 256)[None], cmap=colours, aspect="auto")
        across, up = figure.get_size_inches()
        figure.text((_EDGE + 0.03) / across, (y + 0.14) / up, words, color=FAINT, fontsize=6.3)
        ticks = [(0.0, low, "left"), (1.0, high, "right")]
        if colours is ERROR_MAP:
            ticks.append((0.5, 0.0, "center"))
        for share, value, align in ticks:
            x = (_EDGE + 0.03 + share * width) / across
            text = _number(value, signed=colours is ERROR_MAP)
            figure.text(x, (y - 0.12) / up, text, color=INK, fontsize=6.3, ha=align)


def _times(values: Sequence[float]) -> str:
    return "×".join(f"{v:.3g}" for v in values)


def _number(value: float, signed: bool) -> str:
    text = f"{value:+.4g}" if signed and value else f"{value:.4g}"
    return text.replace("-", "−")
