"""Axes in the look of the page: what all of its charts share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from medrecon.report.palette import LIGHT
from medrecon.report.words import LOSSLESS, significant

MARKS = ("s", "^", "v", "D", "P", "X")

_SIZE = (5.0, 3.55)


@contextmanager
def chart_axes(upward: str, across: str) -> Iterator[tuple[Figure, Axes]]:
    """Axes in the page's look; text is taken as it is, never as a formula."""
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=_SIZE, facecolor=LIGHT["paper"], layout="constrained")
        axes = figure.add_subplot(facecolor=LIGHT["paper"])
        axes.set_xlabel(across, color=LIGHT["faint"], fontsize=9)
        axes.set_ylabel(upward, color=LIGHT["faint"], fontsize=9)
        axes.tick_params(which="both", colors=LIGHT["faint"], labelsize=8.5, length=0)
        axes.grid(color=LIGHT["line"], lw=0.7)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(LIGHT["rule"])
        axes.set_axisbelow(True)
        yield figure, axes


def legend(axes: Axes, last_first: bool = False) -> None:
    """Put the legend above the axes, row by row, the last line first where that is the one that matters."""
    handles, labels = axes.get_legend_handles_labels()
    if last_first:
        handles, labels = handles[::-1], labels[::-1]
    if handles:
        widest = max(map(len, labels))
        columns = 1 if widest > 34 else 2 if widest > 14 else 4
        rows = [place for first in range(columns) for place in range(first, len(labels), columns)]
        axes.legend(  # matplotlib fills column after column
            [handles[place] for place in rows],
            [labels[place] for place in rows],
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=columns,
            frameon=False,
            labelcolor=LIGHT["ink"],
            fontsize=8.5,
            handlelength=2.2,
            columnspacing=1.4,
            borderaxespad=0.2,
        )


def tag(
    axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], side: str = "left"
) -> None:
    """Write a name beside a point."""
    axes.annotate(
        text,
        point,
        offset,
        textcoords="offset points",
        ha=side,
        color=LIGHT["ink"],
        fontsize=8.5,
        path_effects=[withStroke(linewidth=2.5, foreground=LIGHT["paper"])],
        zorder=5,
    )


def powers(axes: Axes, rates: list[float]) -> None:
    """Mark an axis of rates at powers of two, not more of them than can be read."""
    low, high = math.floor(math.log2(min(rates))), math.ceil(math.log2(max(rates)))
    step = max(1, math.ceil((high - low) / 7))
    axes.xaxis.set_major_locator(FixedLocator([2.0**k for k in range(low, high + 1, step)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 2)))
    axes.set_xlim(2.0 ** (math.log2(min(rates)) - 0.3), 2.0 ** (math.log2(max(rates)) + 0.9))


def mark(place: int, points: int) -> dict[str, Any]:
    """A mark of its own for each line, a few along it: lines must not differ by colour alone."""
    marks = ("o", *MARKS)
    every = max(1, points // 8)
    return {"marker": marks[place % len(marks)], "ms": 3.5, "markevery": (place * every // 4, every)}


def finite(values: Sequence[float]) -> np.ndarray:
    """The values, NaN for infinite ones."""
    found = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def visible(values: Sequence[float]) -> np.ndarray:
    """The values, NaN for those that stand for no loss."""
    found = np.asarray(values, dtype=np.float64)
    return np.where(found <= LOSSLESS, found, np.nan)
