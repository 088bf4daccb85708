"""The page of a privacy audit: what may leave the hospital, at which depth, and how far to believe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from medrecon import __version__
from medrecon.io.files.atomic import write_whole
from medrecon.report.axes import chart_axes, legend
from medrecon.report.html import render, style_sheet
from medrecon.report.palette import LIGHT, themed
from medrecon.report.rows import Group
from medrecon.report.style import make_folder, save
from medrecon.report.svg import inline_svg
from medrecon.report.words import brief, clean, number, significant

_MATCHED = {
    "features": "its features against those of the scans that the attacker holds",
    "reconstruction": "the image made of its features against the scans themselves",
    "linear code": "the lowest frequencies of the scan, as many values as are compared of the layer: a "
    "control that has learned nothing",
    "scan itself": "the scan without any network, on the common grid: what tells when the scan itself leaves",
}
Row = Mapping[str, Any]


def write_audit_page(path: Path, content: Mapping[str, Any]) -> Path:
    """Write the page, and its charts in `figures/` beside it.

    Args:
        path: the .html file.
        content: what `medrecon.atlas.audit.run_audit` returns.

    Raises:
        OutputError: the page or a chart cannot be written.
    """
    make_folder(path.parent / "figures")
    conditions = []
    for place, condition in enumerate(content["conditions"]):
        rows = [row for row in content["results"] if row["condition"] == condition["name"]]
        figure = rank_chart(rows, content)
        save(figure, path.parent / "figures" / f"rank_{clean(condition['name']).replace(' ', '_')}")
        title = f"Patients who come first, by layer: {condition['name']}"
        told = "; ".join(f"{clean(row['layer'])} {share(row)}" for row in _features(rows, content))
        chart = inline_svg(figure, f"rank{place}", title, told, themed(1))
        conditions.append({**condition, "chart": chart, "table": _table(rows, content), "id": f"c{place}"})
    return write_whole(
        path,
        render(
            "audit.html.j2",
            style=style_sheet(1),
            version=__version__,
            content=content,
            opening=opening(content),
            verdicts=[(row["layer"], verdict(row, content)) for row in _worst(content)],
            conditions=conditions,
            layers=_layers(content),
            membership=_membership(content["membership"]["rows"]),
            face=_face(content["face"]),
            control=_control(content),
        ),
    )


def share(row: Row) -> str:
    """A share with its interval: "92 % (85 to 96)"."""
    return f"{percent(row['rate'])} % ({percent(row['low'])} to {percent(row['high'])})"


def percent(value: float) -> str:
    """A share in per cent, with a decimal where it is small."""
    return number(100 * value, 1 if 0 < value < 0.095 else 0)


def _features(rows: Sequence[Row], content: Mapping[str, Any]) -> list[Row]:
    """What the features themselves give at the first rank, layer by layer."""
    first = content["ranks"][0]
    return [r for r in rows if r["matched"] == "features" and not r["defence"] and r["rank"] == first]


def _worst(content: Mapping[str, Any]) -> list[Row]:
    """For each layer the undefended match that surely finds most, by features or by reconstruction."""
    first = content["ranks"][0]
    found = []
    for layer in content["layers"]:
        rows = [
            row
            for row in content["results"]
            if row["layer"] == layer["layer"]
            and row["rank"] == first
            and not row["defence"]
            and row["matched"] in ("features", "reconstruction")
        ]
        found.append(max(rows, key=lambda row: row["low"]))
    return found


def opening(content: Mapping[str, Any]) -> str:
    """The answer in a few sentences."""
    rows = _worst(content)
    telling = [row["layer"] for row in rows if row["above_chance"]]
    silent = [row["layer"] for row in rows if not row["above_chance"]]
    if not silent:
        return (
            "Each layer that was measured identifies patients better than chance does. "
            "Treat the features of all of them as you treat the scans."
        )
    listed = ", ".join(silent)
    if not telling:
        return (
            f"This attack finds patients no better than chance from any layer ({listed}). "
            "That is no proof: a stronger attack, or more scans, may."
        )
    return (
        f"Features of {', '.join(telling)} identify patients better than chance does: treat them as you "
        f"treat the scans. From {listed} this attack does not. That is no proof: a stronger one may."
    )


def verdict(row: Row, content: Mapping[str, Any]) -> str:
    """One sentence on a layer, by the match that finds most."""
    by = "features" if row["matched"] == "features" else "the image made of its features"
    where = (
        f"by another scan ({row['condition']})"
        if row["condition"] == "other scans"
        else f"by a made view ({row['condition']})"
    )
    first = "first" if row["rank"] == 1 else f"among the first {row['rank']}"
    text = (
        f"{share(row)} of {_patients(row)} come {first} among {content['patients']}, {where}, "
        f"by {by}; chance is {percent(row['chance'])} %."
    )
    return text if row["above_chance"] else f"{text} That may be chance."


def _patients(row: Row) -> str:
    return f"{row['patients']} patient{'s' if row['patients'] != 1 else ''}"


def rank_chart(rows: Sequence[Row], content: Mapping[str, Any]) -> Figure:
    """The share of patients who come first, by layer, beside the scan itself, a linear code and chance."""
    first = content["ranks"][0]
    rows = [row for row in rows if row["rank"] == first]
    layers = [layer["layer"] for layer in content["layers"]]
    word = "first" if first == 1 else f"among the first {first}"
    with chart_axes(f"patients who come {word} (%)", "layer") as (figure, axes):
        places = np.arange(len(layers))
        whole = next(row for row in rows if row["matched"] == "scan itself")
        axes.axhline(
            100 * whole["rate"], color=LIGHT["faint"], lw=1, ls=(0, (6, 2, 1, 2)), label="scan itself"
        )
        low, high = (100 * whole[end] for end in ("shuffled_low", "shuffled_high"))
        axes.axhspan(low, max(high, low + 0.4), color=LIGHT["line"], lw=0)
        axes.axhline(100 * whole["chance"], color=LIGHT["ink"], lw=1, ls=(0, (1, 1.6)), label="chance")
        looks = {
            "linear code": (LIGHT["faint"], "s", 1.0, (0, (5, 2)), -0.06),
            "reconstruction": (LIGHT["warn"], "^", 1.6, "-", 0.06),
            "features": (LIGHT["accent"], "o", 2.0, "-", 0.0),
        }
        for matched, (colour, shape, width, dash, aside) in looks.items():
            line = {row["layer"]: row for row in rows if row["matched"] == matched and not row["defence"]}
            shares = [100 * line[layer]["rate"] for layer in layers]
            low, high = ([100 * line[layer][end] for layer in layers] for end in ("low", "high"))
            axes.vlines(places + aside, low, high, color=colour, lw=width, zorder=2)
            axes.plot(
                places + aside,
                shares,
                color=colour,
                marker=shape,
                lw=width,
                ls=dash,
                ms=5,
                label=matched,
                zorder=3,
            )
        labels = [brief(layer) for layer in layers]
        tilted = sum(map(len, labels)) > 42
        axes.set_xticks(places, labels, rotation=30 if tilted else 0, ha="right" if tilted else "center")
        axes.set_xlim(-0.35, max(1, len(layers)) - 0.65)
        axes.set_ylim(-3, 103)
        legend(axes, last_first=True)
    return figure


def _table(rows: Sequence[Row], content: Mapping[str, Any]) -> dict[str, Any]:
    """Rows grouped by layer: what is matched, with and without defences, at each rank."""
    ranks = content["ranks"]
    words = {each["name"]: each["words"] for each in content["defences"]}
    columns = ["Layer and match", "Values compared", *(f"Rank {k} (%)" for k in ranks)]
    columns += [f"Shuffled patients, rank {k} (%)" for k in ranks]
    groups: list[Group] = []
    for layer in ["", *(each["layer"] for each in content["layers"])]:
        ours = [row for row in rows if row["layer"] == layer]
        group: Group = [("head", layer or "No network", [])]
        for matched, defence in dict.fromkeys((row["matched"], row["defence"]) for row in ours):
            some = [row for row in ours if (row["matched"], row["defence"]) == (matched, defence)]
            cells = [f"{some[0]['values']:,}", *(_cell(row) for row in some), *(_chance(row) for row in some)]
            group.append(("under", f"{matched}, {defence}" if defence else matched, cells))
        groups.append(group)
    terms = dict(_MATCHED) | {f"features, {name}": words[name] for name in words}
    return {"columns": columns, "groups": groups, "terms": terms}


def _cell(row: Row) -> str:
    return share(row).replace(" %", "")


def _chance(row: Row) -> str:
    low, high = (percent(row[f"shuffled_{end}"]) for end in ("low", "high"))
    return f"{percent(row['shuffled'])} ({low} to {high}); k/N {percent(row['chance'])}"


def _layers(content: Mapping[str, Any]) -> dict[str, Any]:
    defences = [each["name"] for each in content["defences"]]
    columns = ["Layer", "Values per voxel", "PSNR (dB)", "Linear code", *defences]
    rows = []
    for layer in content["layers"]:
        cells = [significant(layer["values_per_voxel"])]
        psnr = [layer["psnr"], layer["linear_code_psnr"], *(layer["psnr_with"][name] for name in defences)]
        cells += ["nothing lost" if value is None else number(value) for value in psnr]
        rows.append((layer["layer"], cells))
    terms = {each["name"]: each["words"] for each in content["defences"]}
    return {"columns": columns, "rows": rows, "terms": terms}


def _membership(rows: Sequence[Row]) -> dict[str, Any] | None:
    if not rows:
        return None
    groups: list[Group] = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        group: Group = [("head", str(layer), [])]
        for row in (row for row in rows if row["layer"] == layer):
            ends = f"{number(row['low'], 2)} to {number(row['high'], 2)}"
            group.append(("under", row["by"], [number(row["auc"], 2), ends]))
        groups.append(group)
    terms = {
        "error": "the mean squared error of the reconstruction: smaller for members, if it tells",
        "linear code": "the error of a code that has learned nothing: beyond 0.5, members are easier scans",
        "error by that of the code": "their ratio: what is left when easy scans are easy for everybody",
    }
    return {"columns": ["Layer and sign", "AUC", "95 % interval"], "groups": groups, "terms": terms}


def _face(face: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if face is None:
        return None
    rows = [
        (
            f"{row['layer'] or 'scan itself'}, {row['head']} head",
            [number(row["own"], 2), number(row["others"], 2), str(row["heads"])],
        )
        for row in face["rows"]
    ]
    return {"columns": ["Layer and head", "Own face", "Others' faces", "Heads"], "rows": rows}


def _control(content: Mapping[str, Any]) -> str:
    """Whether the match with shuffled patients came out at chance."""
    off = [
        row
        for row in content["results"]
        if not row["shuffled_low"] - 1e-9 <= row["chance"] <= row["shuffled_high"] + 1e-9
    ]
    if not off:
        return "With shuffled patients each match came out at chance, as it must."
    return (
        f"With shuffled patients {len(off)} of {len(content['results'])} matches came out beside chance "
        "(95 % of the shuffles do not hold it)."
    )
