"""Two atlases side by side: the difference of each layer on each scan, and its mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from medrecon import __version__
from medrecon.errors import UsageError
from medrecon.evaluation.measures import BY_KEY, MEASURES
from medrecon.io.files.atomic import write_whole
from medrecon.report.html import render, style_sheet
from medrecon.report.palette import LIGHT, themed
from medrecon.report.rows import Group
from medrecon.report.style import new_figure, save
from medrecon.report.svg import inline_svg
from medrecon.report.words import clean, decimals, number

_PANELS = {measure.key: measure.title() for measure in MEASURES if measure.charted}


def write_paired(path: Path, content: Mapping[str, Any]) -> None:
    """Write the page of a comparison, and its figure beside it as PNG and SVG.

    Args:
        path: the .html file.
        content: what `medrecon.atlas.compare.compare_atlases` returns.

    Raises:
        UsageError: no difference to draw.
        OutputError: a file cannot be written.
    """
    figure = paired_figure(content)
    save(figure, path.with_suffix(""))
    said = "; ".join(
        f"{clean(row['layer'])} {_difference(row)}" for row in content["results"] if row["measure"] == "psnr"
    )
    table = _table(content)
    names = themed(1)
    write_whole(
        path,
        render(
            "compare.html.j2",
            style=style_sheet(1),
            version=__version__,
            content=content,
            chart=inline_svg(figure, "paired", "Differences by layer", f"PSNR (dB): {said}", names),
            table=table,
        ),
    )


def _table(content: Mapping[str, Any]) -> dict[str, Any]:
    groups: list[Group] = []
    terms = {}
    for layer in dict.fromkeys(row["layer"] for row in content["results"]):
        group: Group = [("head", str(layer), [])]
        for row in (row for row in content["results"] if row["layer"] == layer):
            measure = BY_KEY[row["measure"]]
            title = measure.title(row["units"])
            terms[title] = measure.meaning
            digits = measure.digits
            if digits is None:
                digits = min(4, decimals([row["first"] or 0.0, row["second"] or 0.0]))
            cells = [number(row[key], digits) for key in ("first", "second")]
            cells += [_difference(row), _sure(row), str(row["scans"])]
            group.append(("under", title, cells))
        groups.append(group)
    columns = ["Layer and measure", content["first"], content["second"]]
    columns += ["Difference", "95 % interval", "Scans"]
    return {"columns": columns, "groups": groups, "terms": terms}


def _difference(row: Mapping[str, Any]) -> str:
    return number(row["difference"], _digits(row), signed=True)


def _sure(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return "–"
    ends = (
        f"{number(row['low'], _digits(row), signed=True)} to {number(row['high'], _digits(row), signed=True)}"
    )
    return ends if row["excludes_zero"] else f"{ends} (may be none)"


def _digits(row: Mapping[str, Any]) -> int:
    known = [row[key] for key in ("difference", "low", "high") if row[key]]
    return min(4, decimals(known)) if known else 1


def paired_figure(content: Mapping[str, Any]) -> Figure:
    """Draw the paired differences that `medrecon.atlas.compare.compare_atlases` found, on white.

    One panel a measure, one row a layer: a dot for each scan, the mean and its interval on top. Right of zero
    the second has the larger value.

    Args:
        content: what `compare_atlases` returns.

    Raises:
        UsageError: no difference to draw.
    """
    layers = list(dict.fromkeys(row["layer"] for row in content["results"]))
    panels = [m for m in _PANELS if any(row["measure"] == m for row in content["results"])]
    if not panels:
        raise UsageError("no difference to draw", remedy="compare layers that lose something")
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
    count = content["scans"]
    title = f"{content['second']} minus {content['first']}, {count} scan{'s' * (count != 1)}"
    figure.text(0.02, 1 - 0.3 / height, title, color=LIGHT["ink"], fontsize=10, weight="bold")
    return figure
