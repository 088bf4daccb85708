"""The summary page of many scans: means with their intervals, and a way to each scan's own page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

from medrecon import __version__
from medrecon.evaluation.measures import BY_KEY, SOURCE
from medrecon.evaluation.scores import LayerScore, ScanScores
from medrecon.io.files.atomic import write_whole
from medrecon.report import charts
from medrecon.report.html import render, style_sheet
from medrecon.report.palette import themed
from medrecon.report.rows import Group
from medrecon.report.style import make_folder, save
from medrecon.report.svg import inline_svg
from medrecon.report.words import CONTROL_MEANINGS, clean, control, decimals, number, shown, times

_BESIDE = ("linear code", "random weights", "shuffled features", "mean image")
_TERMS = {
    **{key.upper(): BY_KEY[key].meaning for key in ("mae", "ssim", "psnr")},
    **{name.capitalize(): CONTROL_MEANINGS[name] for name in _BESIDE},
}
"""Columns of the table of scans, and what each means."""


def write_index(
    path: str | Path,
    scans: Sequence[tuple[ScanScores, str]],
    aggregate: Sequence[Mapping[str, Any]],
    *,
    patients: int | None = None,
    pictures: Sequence[tuple[str, str, str]] = (),
    outliers: Sequence[Mapping[str, Any]] = (),
    failed: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the page that leads to the pages of many scans, and its chart in `figures/` beside it.

    Args:
        path: the .html file.
        scans: scores of each scan, and the path of its page, relative to this one.
        aggregate: one row for each layer and measure: "layer", "measure", "units", "scans", "patients",
            "mean", "low", "high", "median", "smallest", "largest" (`medrecon.atlas.summary.summary_rows`).
        patients: how many the scans are of; None where a file does not say.
        pictures: of the best, the middle and the worst scan: which it is, link, picture as a data URI.
        outliers: "scan", "layer" and "measures" of what stands out.
        failed: "scan" (or "path") and "error" of what could not be measured.

    Returns:
        The page.

    Raises:
        OutputError: the page or its chart cannot be written.
    """
    path = Path(path)
    layers = list(dict.fromkeys(layer.layer for scores, _ in scans for layer in shown(scores)))
    chart = ""
    if layers:
        figure = charts.cohort_chart([scores for scores, _ in scans], layers)
        make_folder(path.parent / "figures")
        save(figure, path.parent / "figures" / "psnr_by_layer")
        told = "; ".join(
            f"{clean(r['layer'])} {_cell(r, 'mean')} dB" for r in aggregate if r["measure"] == "psnr"
        )
        title = "PSNR of each scan by layer"
        chart = inline_svg(figure, "cohort", title, f"Means: {told}" if told else "", themed(1))
    return write_whole(
        path,
        render(
            "index.html.j2",
            style=style_sheet(1),
            version=__version__,
            count=len(scans),
            patients=patients,
            pictures=pictures,
            chart=chart,
            means=_means([row for row in aggregate if row["layer"] in layers]),
            scans=_scans(scans),
            terms=_TERMS,
            outliers=[
                (str(r.get("scan", "")), [str(r.get(k, "")) for k in ("layer", "measures")]) for r in outliers
            ],
            failed=[_fault(row) for row in failed],
        ),
    )


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    groups: list[Group] = []
    terms = {}
    for layer in dict.fromkeys(row["layer"] for row in rows):
        group: Group = [("head", str(layer), [])]
        for row in (r for r in rows if r["layer"] == layer):
            name = _named(row)
            terms[name] = BY_KEY[row["measure"]].meaning
            interval = "–"
            if row.get("low") is not None and math.isfinite(row["low"]):
                interval = f"{_cell(row, 'low')} to {_cell(row, 'high')}"
            cells = [str(row.get("scans", "–")), _cell(row, "mean"), interval]
            cells += [_cell(row, "median"), f"{_cell(row, 'smallest')} to {_cell(row, 'largest')}"]
            group.append(("under", name, cells))
        groups.append(group)
    columns = ["Layer and measure", "Scans", "Mean", "95 % interval", "Median", "Range"]
    return {"columns": columns, "groups": groups, "terms": terms} if groups else None


def _named(row: Mapping[str, Any]) -> str:
    """A measure with its unit; where scans in other units have a mean of their own, with theirs."""
    measure, units = BY_KEY[row["measure"]], row.get("units") or ""
    title = measure.title(units)
    return title if measure.unit == SOURCE or not units else f"{title}, scans in {units}"


def _cell(row: Mapping[str, Any], part: str) -> str:
    measure = BY_KEY[row["measure"]]
    digits = measure.digits
    if digits is None:
        digits = min(4, decimals([v for k in ("mean", "median") if (v := row.get(k)) is not None]))
    return number(row.get(part), digits, signed=measure.signed)


def _scans(scans: Sequence[tuple[ScanScores, str]]) -> list[dict[str, Any]]:
    """A link, what the scan is, and its rows: each score and, beside it, the PSNR of its controls."""
    found = []
    for scores, link in scans:
        about = [scores.modality, f"{times(scores.shape)} voxels", f"{times(scores.spacing)} mm"]
        rows = [(layer.layer, _scan_cells(layer, scores.units)) for layer in shown(scores)]
        found.append({"label": scores.label, "link": quote(link), "about": about, "rows": rows})
    return found


def _scan_cells(layer: LayerScore, units: str) -> list[str]:
    mae = f"{number(layer.mae, min(4, decimals([layer.mae])))} {units}".rstrip()
    beside = (control(layer, name) for name in _BESIDE)
    return [mae, number(layer.ssim, 3), number(layer.psnr), *(number(c.psnr if c else None) for c in beside)]


def _fault(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("scan") or row.get("path") or ""), str(row.get("error") or row.get("message") or "")


def figure_uri(path: Path, width: int = 1100) -> Markup:
    """A figure, made no wider than so many pixels, as a data URI."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    if small.width > width:
        small = small.resize((width, round(small.height * width / small.width)), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=88)
    return Markup("data:image/jpeg;base64,") + base64.b64encode(stream.getvalue()).decode()
