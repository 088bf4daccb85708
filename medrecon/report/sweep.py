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

WORDS = {"held_out": "scans held out", "training": "trained on"}


def sweep_figure(
    rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "", image: str = "slice"
) -> list[Path]:
    """Draw PSNR against parameters, training time and inference time, a point for each variant.

    Above (full points) scans held out, below (hollow) scans that were trained on, with as many dB to the
    inch: where both are low the decoder is too simple, where it still rises below and falls above it
    overfits. The two differ in level because they are different scans. A pale line joins the Pareto front.

    Args:
        rows: of `medrecon.training.sweep.table`; those without a finite PSNR are left out.
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
    figure = new_figure(11.4, 6.0)
    left, width, gap = 0.055, 0.27, 0.048
    spans = {part: _span(shown, part) for part in ("held_out", "training")}
    reach = max((high - low for low, high in spans.values()), default=0.0) / 2
    for place, (front, column, words) in enumerate(PANELS):
        for part, bottom, height in (("held_out", 0.49, 0.42), ("training", 0.155, 0.27)):
            box = (left + place * (width + gap), bottom, width, height)
            axes = figure.add_axes(box, facecolor=PAPER)
            _panel(axes, shown, part, column, front, coloured, groups)
            middle = sum(spans[part]) / 2
            # as many dB to the inch in both, so that slopes compare
            axes.set_ylim(middle - reach * height / 0.27, middle + reach * height / 0.27)
            if place == 0:
                axes.set_ylabel(f"PSNR (dB), {WORDS[part]}", color=FAINT, fontsize=8.5)
            if part == "training":
                axes.set_xlabel(words.format(image=image), color=FAINT, fontsize=8.5)
            else:
                axes.tick_params(labelbottom=False)
    handles = [_key(ACCENTS[i % len(ACCENTS)], f"{coloured} {name}") for i, name in enumerate(groups)]
    handles += [_key(INK, "held out"), _key(INK, "trained on", hollow=True)]
    handles.append(Line2D([], [], color=FAINT, lw=4, alpha=0.35, label=" Pareto front"))
    if len(knobs) > 1:
        handles.append(Line2D([], [], ls="", label=f"numbers: {'/'.join(knobs[:-1])}"))
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(left - 0.01, 0.0), ncols=len(handles),
        frameon=False, labelcolor=INK, fontsize=8, handletextpad=0.3, columnspacing=1.4,
    )  # fmt: skip
    if title:
        figure.text(left, 0.945, title, color=INK, fontsize=10, weight="bold")
    return save(figure, path)


def _span(rows: Sequence[Mapping[str, Any]], part: str) -> tuple[float, float]:
    """The PSNR of all variants, and some room around it."""
    finite = [row[part]["psnr"] for row in rows if row[part]["psnr"] is not None] or [0.0]
    room = 0.15 * max(max(finite) - min(finite), 0.5)
    return min(finite) - room, max(finite) + room


def _panel(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    part: str,
    column: str,
    front: str,
    coloured: str,
    groups: Sequence[str],
) -> None:
    held_out = part == "held_out"
    if held_out:
        best = sorted((row[column], row[part]["psnr"]) for row in rows if row["pareto"][front])
        axes.plot([p[0] for p in best], [p[1] for p in best], color=FAINT, lw=6, alpha=0.3, zorder=1)
    for row in rows:
        if row[part]["psnr"] is None:
            continue
        colour = ACCENTS[groups.index(str(row["knobs"][coloured])) % len(ACCENTS)]
        at = row[column], row[part]["psnr"]
        axes.plot(*at, "o", ms=6.5, mfc=colour if held_out else PAPER, mec=colour, mew=1.2, zorder=4)
        others = [str(value) for name, value in row["knobs"].items() if name != coloured]
        axes.annotate(
            "/".join(others), at, (0, 7), textcoords="offset points", ha="center", color=INK, fontsize=7,
            path_effects=[withStroke(linewidth=2, foreground=PAPER)], zorder=5,
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
    finite = {name: math.inf if value is None else value for name, value in psnr.items()}
    return layers_figure(
        source, results, spacing, units, path,
        affine=affine, psnr=finite, planes=[plane_of(affine)], window=window,
    )  # fmt: skip


def plane_of(affine: np.ndarray) -> Plane:
    """The plane that slices along a scan's last axis lie in, or nearly."""
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return planes[make_view(np.zeros((1, 1, 1)), (1, 1, 1), affine).order.index(2)]
