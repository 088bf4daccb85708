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
from medrecon.report.palette import Look
from medrecon.report.planes import Plane, make_view
from medrecon.report.style import chart_axes, new_figure, save

PANELS = (
    ("parameters", "parameters", "decoder's parameters"),
    ("training", "train_seconds", "seconds of training"),
    ("inference", "inference_seconds", "seconds for each {image}"),
)
"""Pareto front, column of the table, words beneath the axis."""

_SIZE = (11.4, 6.0)  # inches

_AROUND = ((0, 11), (0, -11), (1, 0), (-1, 0), (1, 10), (-1, 10), (1, -10), (-1, -10), (0, 21), (0, -21))
"""Where a label may stand: half its width to a side, and points up."""


WORDS = {"held_out": "scans held out", "training": "trained on"}


def sweep_figure(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    title: str = "",
    image: str = "slice",
    dark: bool = False,
) -> list[Path]:
    """Draw PSNR against parameters, training time and inference time, a point for each variant.

    Above (full points) scans held out, below (hollow) scans that were trained on, with as many dB to the
    inch: where both are low the decoder is too simple, where it still rises below and falls above it
    overfits. The two differ in level because they are different scans. A bar is the standard error over the
    scans. A pale line joins the Pareto front; variants whose times differ by less than a tenth are as fast.

    Args:
        rows: of `medrecon.training.sweep.table`; those without a finite PSNR are left out.
        path: a .png or .svg file; both are written for a path without suffix.
        title: what was swept.
        image: what the time of inference is for: "slice" or "block".
        dark: on the dark paper of the report instead of its light one.

    Returns:
        The files written.

    Raises:
        UsageError: nothing to draw.
        OutputError: the file cannot be written.
    """
    look = Look.of(dark)
    shown = [row for row in rows if row["held_out"]["psnr"] is not None]
    if not shown:
        raise UsageError("no variant to draw", path=path, remedy="sweep a layer that loses something")
    knobs = _varied(shown)
    coloured = knobs[-1]
    groups = list(dict.fromkeys(str(row["knobs"][coloured]) for row in shown))
    figure = new_figure(*_SIZE, look.paper)
    colours = look.ramp(len(groups))
    left, width, gap = 0.055, 0.27, 0.048
    spans = {part: _span(shown, part) for part in ("held_out", "training")}
    reach = max((high - low for low, high in spans.values()), default=0.0) / 2
    for place, (front, column, words) in enumerate(PANELS):
        for part, bottom, height in (("held_out", 0.49, 0.42), ("training", 0.155, 0.27)):
            box = (left + place * (width + gap), bottom, width, height)
            axes = figure.add_axes(box, facecolor=look.paper)
            middle = sum(spans[part]) / 2
            # as many dB to the inch in both, so that slopes compare
            axes.set_ylim(middle - reach * height / 0.27, middle + reach * height / 0.27)
            _panel(axes, shown, part, column, front, coloured, groups, look)
            if place == 0:
                axes.set_ylabel(f"PSNR (dB), {WORDS[part]}", color=look.faint, fontsize=8.5)
            if part == "training":
                axes.set_xlabel(words.format(image=image), color=look.faint, fontsize=8.5)
            else:
                axes.tick_params(labelbottom=False)
    handles = [_key(colours[i], f"{coloured} {name}", look) for i, name in enumerate(groups)]
    handles += [_key(look.ink, "held out", look), _key(look.ink, "trained on", look, hollow=True)]
    handles.append(Line2D([], [], color=look.faint, lw=4, alpha=0.35, label=" Pareto front"))
    if len(knobs) > 1:
        handles.append(Line2D([], [], ls="", label=f"numbers: {'/'.join(knobs[:-1])}"))
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(left - 0.01, 0.0), ncols=len(handles),
        frameon=False, labelcolor=look.ink, fontsize=8, handletextpad=0.3, columnspacing=1.4,
    )  # fmt: skip
    if title:
        figure.text(left, 0.945, title, color=look.ink, fontsize=10, weight="bold")
    return save(figure, path)


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The knobs that were turned; the last one where none was."""
    knobs = list(rows[0]["knobs"])
    varied = [name for name in knobs if len({str(row["knobs"][name]) for row in rows}) > 1]
    return varied or knobs[-1:]


def _span(rows: Sequence[Mapping[str, Any]], part: str) -> tuple[float, float]:
    """The PSNR of all variants with its bars, and some room around it."""
    finite = [
        row[part]["psnr"] + sign * _standard_error(row, part)
        for row in rows
        if row[part]["psnr"] is not None
        for sign in (-1, 1)
    ] or [0.0]
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
    look: Look,
) -> None:
    held_out = part == "held_out"
    if held_out:
        best = sorted((row[column], row[part]["psnr"]) for row in rows if row["pareto"][front])
        axes.plot([p[0] for p in best], [p[1] for p in best], color=look.faint, lw=6, alpha=0.3, zorder=1)
    colours, labels = look.ramp(len(groups)), []
    for row in rows:
        if row[part]["psnr"] is None:
            continue
        colour = colours[groups.index(str(row["knobs"][coloured]))]
        at = row[column], row[part]["psnr"]
        axes.errorbar(*at, yerr=_standard_error(row, part), color=colour, lw=1, capsize=2, zorder=3)
        axes.plot(*at, "o", ms=6.5, mfc=colour if held_out else look.paper, mec=colour, mew=1.2, zorder=4)
        others = [str(row["knobs"][name]) for name in _varied(rows) if name != coloured]
        labels.append(("/".join(others), at))
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
    chart_axes(axes, look)
    _label(axes, labels, look)


def _standard_error(row: Mapping[str, Any], part: str) -> float:
    """Of the mean PSNR over the scans; 0 where they are not known or too few."""
    values = [scan["psnr"] for scan in row.get("scans", {}).get(part, ()) if scan["psnr"] is not None]
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _label(axes: Axes, labels: Sequence[tuple[str, tuple[float, float]]], look: Look) -> None:
    """Write each label beside its point, at the first place around it where nothing else is written.

    Places are judged in the pixels of the axes as they are laid out when the figure is drawn.
    """
    box = axes.get_position()
    across, up = (72 * inches for inches in _SIZE)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    grow = math.log10 if axes.get_xscale() == "log" else float
    places = [
        (
            (grow(x) - grow(left)) / (grow(right) - grow(left)) * box.width * across,
            (y - low) / (high - low) * box.height * up,
        )
        for _, (x, y) in labels
    ]
    taken = [(at_x, at_y, 4.0) for at_x, at_y in places]
    for (text, (x, y)), (at_x, at_y) in zip(labels, places, strict=True):
        half = 2.1 * max(1, len(text))
        for dx, dy in _AROUND:
            shift = dx * (half + 6), dy
            spot = (at_x + shift[0], at_y + shift[1], half)
            if all(abs(spot[0] - a) > half + c + 1 or abs(spot[1] - b) > 8 for a, b, c in taken):
                break
        taken.append(spot)
        axes.annotate(
            text, (x, y), shift, textcoords="offset points", ha="center", va="center", color=look.ink,
            fontsize=7, path_effects=[withStroke(linewidth=2, foreground=look.paper)], zorder=5,
        )  # fmt: skip


def amount(value: float) -> str:
    """A number as an axis shows it: "1.2 M", "320 k", "0.05"."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _key(colour: str, label: str, look: Look, hollow: bool = False) -> Line2D:
    face = look.paper if hollow else colour
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
