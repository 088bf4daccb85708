"""Pictures of a sweep: held-out fidelity against what it costs, and the same slice from several variants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from medrecon.errors import UsageError
from medrecon.report.layers import layers_figure
from medrecon.report.planes import Plane, make_view
from medrecon.report.style import ACCENTS, FAINT, INK, LINE, PAPER, new_figure, save

PANELS = (
    ("parameters", "parameters", "decoder's parameters"),
    ("training", "train_seconds", "seconds of training"),
    ("inference", "inference_seconds", "seconds for each {image}"),
)
"""Pareto front, column of the table, words beneath the axis."""


def sweep_figure(
    rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "", image: str = "slice"
) -> list[Path]:
    """Draw PSNR against parameters, training time and inference time, a point for each variant.

    Full points are scans held out, hollow ones scans that were trained on, a thin line joins the two: where
    both are low the decoder is too simple, where the line grows while the full point falls it overfits. A
    pale line joins the Pareto front.

    Args:
        rows: of `medrecon.sweep.table`; those without a finite PSNR are left out.
        path: a .png or .svg file; both are written for a path without suffix.
        title: what was swept.
        image: what the time of inference is for: "slice" or "block".

    Returns:
        The files written.

    Raises:
        UsageError: nothing to draw.
        OutputError: the file cannot be written.
    """
    shown = [row for row in rows if row["held_out"]["psnr"] is not None]
    if not shown:
        raise UsageError("no variant to draw", path=path, remedy="sweep a layer that loses something")
    knobs = list(shown[0]["knobs"])
    coloured = knobs[-1]
    groups = list(dict.fromkeys(str(row["knobs"][coloured]) for row in shown))
    figure = new_figure(11.4, 4.5)
    left, width, gap = 0.052, 0.272, 0.048
    # panels of one height scale: the eye compares along them
    limits = _limits(shown)
    for place, (front, column, words) in enumerate(PANELS):
        box = (left + place * (width + gap), 0.225, width, 0.63)
        axes = figure.add_axes(box, facecolor=PAPER)
        _panel(axes, shown, column, front, coloured, groups)
        axes.set_ylim(*limits)
        axes.set_xlabel(words.format(image=image), color=FAINT, fontsize=8.5)
        if place == 0:
            axes.set_ylabel("PSNR (dB)", color=FAINT, fontsize=8.5)
    handles = [_key(ACCENTS[i % len(ACCENTS)], f"{coloured} {name}") for i, name in enumerate(groups)]
    handles += [_key(INK, "held out"), _key(INK, "trained on", hollow=True)]
    handles.append(Line2D([], [], color=FAINT, lw=4, alpha=0.35, label="Pareto front"))
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(left - 0.01, 0.0), ncols=len(handles),
        frameon=False, labelcolor=INK, fontsize=8, handletextpad=0.3, columnspacing=1.4,
    )  # fmt: skip
    if title:
        figure.text(left, 0.925, title, color=INK, fontsize=10, weight="bold")
    return save(figure, path)


def _limits(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    values = [row[part]["psnr"] for row in rows for part in ("held_out", "training")]
    finite = [value for value in values if value is not None]
    room = 0.12 * max(max(finite) - min(finite), 0.5)
    return min(finite) - room, max(finite) + room


def _panel(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    column: str,
    front: str,
    coloured: str,
    groups: Sequence[str],
) -> None:
    best = sorted((row[column], row["held_out"]["psnr"]) for row in rows if row["pareto"][front])
    axes.plot([p[0] for p in best], [p[1] for p in best], color=FAINT, lw=6, alpha=0.3, zorder=1)
    for row in rows:
        colour = ACCENTS[groups.index(str(row["knobs"][coloured])) % len(ACCENTS)]
        x, held_out, training = row[column], row["held_out"]["psnr"], row["training"]["psnr"]
        if training is not None:
            axes.plot([x, x], [held_out, training], color=colour, lw=0.9, alpha=0.6, zorder=2)
            axes.plot([x], [training], "o", ms=5.5, mfc=PAPER, mec=colour, mew=1.2, zorder=3)
        axes.plot([x], [held_out], "o", ms=6.5, color=colour, zorder=4)
        others = [f"{name} {value}" for name, value in row["knobs"].items() if name != coloured]
        words = withStroke(linewidth=2, foreground=PAPER)
        axes.annotate(
            ", ".join(others), (x, held_out), (6, -3), textcoords="offset points", color=INK, fontsize=6.8,
            path_effects=[words], zorder=5,
        )  # fmt: skip
    costs = [float(row[column]) for row in rows]
    if max(costs) > 1.6 * min(costs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        room = (max(costs) / min(costs)) ** 0.12
        axes.set_xlim(min(costs) / room, max(costs) * room**2)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.margins(x=0.25)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7))
    axes.tick_params(colors=FAINT, labelsize=8, length=0)
    axes.grid(color=LINE, lw=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)


def amount(value: float) -> str:
    """A number as an axis shows it: "1.2 M", "320 k", "0.05"."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _key(colour: str, label: str, hollow: bool = False) -> Line2D:
    face = PAPER if hollow else colour
    return Line2D([], [], ls="", marker="o", ms=6, mfc=face, mec=colour, mew=1.2, label=label)


def variants_figure(
    source: np.ndarray,
    results: Mapping[str, np.ndarray],
    affine: np.ndarray,
    units: str,
    path: str | Path,
    *,
    psnr: Mapping[str, float | None],
    window: tuple[float, float] | None = None,
) -> list[Path]:
    """Draw one slice, each variant's reconstruction in the same window, and the signed errors beneath.

    Args:
        source: (X, Y, 1), a slice along the scan's last axis, in `units`.
        results: variant -> the same slice reconstructed.
        affine: (4, 4) of the scan, voxel index -> RAS mm.
        units: "HU" or the scan's.
        path: see `layers_figure`.
        psnr: variant -> dB, for the titles.
        window: the values shown black and white, see `layers_figure`.

    Returns:
        The files written.

    Raises:
        UsageError: nothing to draw.
        OutputError: the file cannot be written.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    across = make_view(source, spacing, affine).order.index(2)
    finite = {name: math.inf if value is None else value for name, value in psnr.items()}
    return layers_figure(
        source, results, spacing, units, path,
        affine=affine, psnr=finite, planes=[planes[across]], window=window,
    )  # fmt: skip
