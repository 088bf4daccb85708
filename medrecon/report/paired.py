"""Two atlases side by side: the difference of each layer on each scan, and its mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import UsageError
from medrecon.evaluation.measures import MEASURES
from medrecon.report.palette import LIGHT
from medrecon.report.style import new_figure, save

_PANELS = {measure.key: measure.title() for measure in MEASURES if measure.charted}


def paired_figure(content: Mapping[str, Any], path: str | Path) -> list[Path]:
    """Draw the paired differences that `medrecon.atlas.compare.compare_atlases` found, on white.

    One panel a measure, one row a layer: a dot for each scan, the mean and its interval on top. Right of zero
    the second has the larger value.

    Args:
        content: what `compare_atlases` returns.
        path: a .png or .svg file; both are written for a path without suffix.

    Returns:
        The files written.

    Raises:
        UsageError: no difference to draw.
        OutputError: the file cannot be written.
    """
    layers = list(dict.fromkeys(row["layer"] for row in content["results"]))
    panels = [m for m in _PANELS if any(row["measure"] == m for row in content["results"])]
    if not panels:
        raise UsageError("no difference to draw", path=path, remedy="compare layers that lose something")
    width, height = 3.1 * len(panels) + 1.2, 0.42 * len(layers) + 1.35
    figure = new_figure(width, height, LIGHT["paper"])
    for place, measure in enumerate(panels):
        left = (1.15 + 3.1 * place) / width
        axes = figure.add_axes((left, 0.62 / height, 2.8 / width, 0.42 * len(layers) / height))
        axes.set_facecolor(LIGHT["paper"])
        axes.axvline(0, color=LIGHT["faint"], lw=1)
        for row in content["results"]:
            if row["measure"] != measure:
                continue
            at = layers.index(row["layer"])
            dots = [
                pair[f"{measure} difference"]
                for pair in content["pairs"]
                if pair["layer"] == row["layer"] and pair[f"{measure} difference"] is not None
            ]
            spread = np.linspace(-0.18, 0.18, len(dots)) if len(dots) > 1 else np.zeros(len(dots))
            axes.plot(dots, at + spread, "o", ms=3, color=LIGHT["faint"], alpha=0.7)
            if row["low"] is not None:
                axes.plot([row["low"], row["high"]], [at, at], color=LIGHT["accent"], lw=2.4)
            axes.plot([row["difference"]], [at], "D", ms=5, color=LIGHT["warn"])
        axes.set_ylim(len(layers) - 0.5, -0.5)
        axes.set_yticks(range(len(layers)), layers if place == 0 else [""] * len(layers))
        axes.tick_params(colors=LIGHT["ink"], labelsize=8, length=0)
        axes.grid(axis="x", color=LIGHT["line"], lw=0.7)
        axes.set_xlabel(f"difference in {_PANELS[measure]}", color=LIGHT["faint"], fontsize=8.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
    title = f"{content['second']} minus {content['first']}, {content['scans']} scans"
    figure.text(0.02, 1 - 0.3 / height, title, color=LIGHT["ink"], fontsize=10, weight="bold")
    return save(figure, path)
