"""Fidelity against what a layer keeps: one line for each model or control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from medrecon.errors import UsageError
from medrecon.report.style import ACCENTS, FAINT, INK, LINE, PAPER, new_figure, save

Point = tuple[str, float, float]
"""A layer's name ("" for none), the values it keeps per voxel, and the PSNR in dB."""


def fidelity_curve(
    lines: Mapping[str, Sequence[Point]],
    path: str | Path,
    *,
    title: str = "",
    measure: str = "PSNR (dB)",
) -> list[Path]:
    """Draw PSNR by values kept per voxel.

    Args:
        lines: what a line shows ("volume_autoencoder", "lowest DCT frequencies") -> its points. Lines
            beyond the first are drawn dashed and thinner: they are what the first is held against.
        path: a .png or .svg file; both are written for a path without suffix.
        title: what was measured, on which scan.
        measure: name and unit of the vertical axis.

    Returns:
        The files written.

    Raises:
        UsageError: nothing to draw: no finite point.
        OutputError: the file cannot be written.
    """
    shown = {
        name: sorted((p for p in points if p[1] > 0 and math.isfinite(p[2])), key=lambda p: p[1])
        for name, points in lines.items()
    }
    points = [point for line in shown.values() for point in line]
    if not points:
        raise UsageError(
            "no finite point to draw", path=path, remedy="measure at least one layer that loses something"
        )
    figure = new_figure(6.4, 3.7)
    axes = figure.add_axes((0.095, 0.15, 0.875, 0.72 if title else 0.8), facecolor=PAPER)
    for number, (name, line) in enumerate(shown.items()):
        colour, first = ACCENTS[number % len(ACCENTS)], number == 0
        axes.plot(
            [p[1] for p in line],
            [p[2] for p in line],
            color=colour,
            lw=2 if first else 1.3,
            ls="-" if first else (0, (4, 2)),
            marker="o",
            ms=5 if first else 3.5,
            label=name,
            zorder=3 if first else 2,
        )
        for label, rate, value in line:
            axes.annotate(
                label,
                (rate, value),
                (0, 7) if first else (0, -12),
                textcoords="offset points",
                ha="center",
                color=INK if first else FAINT,
                fontsize=7.5,
                path_effects=[withStroke(linewidth=2, foreground=PAPER)],
                zorder=4,
            )
    rates = [math.log2(p[1]) for p in points]
    ticks = range(math.floor(min(rates)), math.ceil(max(rates)) + 1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(2.0 ** (min(rates) - 0.6), 2.0 ** (max(rates) + 0.6))
    axes.set_xticks([2.0**t for t in ticks], [str(2**t) if t >= 0 else f"1/{2**-t}" for t in ticks])
    axes.minorticks_off()
    axes.margins(y=0.14)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.set_xlabel("values kept per voxel", color=FAINT, fontsize=8.5)
    axes.set_ylabel(measure, color=FAINT, fontsize=8.5)
    axes.tick_params(colors=FAINT, labelsize=8, length=0)
    axes.grid(color=LINE, lw=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    if len(shown) > 1:
        axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=8)
    if title:
        figure.text(0.095, 0.925, title, color=INK, fontsize=10, weight="bold")
    return save(figure, path)
