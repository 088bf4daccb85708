"""The tables of an atlas as rows of text: every number set alike down its column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from medrecon.evaluation.measures import BY_KEY, MEASURES, Measure
from medrecon.evaluation.scores import LayerScore, RegionError, ScanScores
from medrecon.report import words
from medrecon.report.layers import rate_words
from medrecon.report.words import decimals, number, shown, significant, times

Group = list[tuple[str, str, list[str]]]

_LAYER_TERMS = {
    "Channels": "feature maps of the layer",
    "Stride": "voxels of the scan for each position of a feature map, along each axis",
    "Values/voxel": BY_KEY["values_per_voxel"].meaning,
    "Bits/voxel": BY_KEY["bits_per_voxel"].meaning,
    "Time (s)": "of reconstructing and measuring this layer, on the machine named below",
}
_CODEC = "bits per voxel at which this codec gives the same PSNR on this scan"


def score_table(scores: ScanScores) -> dict[str, Any] | None:
    """Scores of each layer with its controls beneath; None where no layer has controls."""
    layers = shown(scores)
    if not layers:
        return None
    needed = _digits([v for layer in layers for v in (layer.mae, layer.rmse)])
    part = words.part_of_controls(scores)
    scored = [m for m in MEASURES if m.scored and any(m.of(layer) is not None for layer in layers)]

    def cell(measure: Measure, value: float | None) -> str:
        return number(value, needed if measure.digits is None else measure.digits, signed=measure.signed)

    groups: list[Group] = []
    for layer in layers:
        group: Group = [("head", layer.layer, [cell(m, m.of(layer)) for m in scored])]
        beside = [(each.name, each) for each in layer.controls]
        if layer.there is not None and part:
            beside.insert(0, (f"{layer.layer} on {part}", layer.there))
        for name, each in beside:
            values = [(measure, measure.of(each)) for measure in scored]
            group.append(("under", name, ["" if v is None else cell(m, v) for m, v in values]))
        groups.append(group)
    titles = [title[0].upper() + title[1:] for title in (measure.title() for measure in scored)]
    terms = dict(zip(titles, (measure.meaning for measure in scored), strict=True)) | words.CONTROL_MEANINGS
    return {"columns": ["Layer", *titles], "groups": groups, "terms": terms}


def layer_table(scores: ScanScores) -> dict[str, Any]:
    """What each layer holds, the codecs' rates for the same fidelity, and the time it took."""
    layers = shown(scores)
    codecs = list(dict.fromkeys(name for layer in layers for name in layer.codecs))
    rows = []
    for layer in layers:
        cells = [
            "–" if layer.channels is None else str(layer.channels),
            "–" if layer.stride is None else times(layer.stride),
            "–" if layer.values_per_voxel is None else rate_words(layer.values_per_voxel).split()[0],
            significant(layer.bits_per_voxel, 3),
            *(significant(layer.codecs.get(name), 3) for name in codecs),
            significant(layer.seconds, 2),
        ]
        rows.append((layer.layer, cells))
    columns = ["Layer", "Channels", "Stride", "Values/voxel", "Bits/voxel", *codecs, "Time (s)"]
    return {"columns": columns, "rows": rows, "terms": _LAYER_TERMS | dict.fromkeys(codecs, _CODEC)}


def interval_table(scores: ScanScores) -> dict[str, Any] | None:
    """Coverage and width of the stated interval; None where no layer has one."""
    layers = [layer for layer in shown(scores) if layer.coverage is not None]
    if not layers:
        return None
    digits = _digits([layer.interval or 0.0 for layer in layers])
    unit = f" ({scores.units})" if scores.units else ""
    rows = [
        (layer.layer, [number(100 * (layer.coverage or 0.0), 1), number(layer.interval, digits)])
        for layer in layers
    ]
    width = f"Half width{unit}"
    terms = {"Inside (%)": BY_KEY["coverage"].meaning, width: BY_KEY["interval"].meaning}
    return {"columns": ["Layer", "Inside (%)", width], "rows": rows, "terms": terms}


def region_table(scores: ScanScores) -> dict[str, Any] | None:
    """Errors of each layer by region; None where no region was measured."""
    layers = shown(scores)
    names = dict.fromkeys(name for layer in layers for name in layer.regions)
    found = [(name, [(la, la.regions[name]) for la in layers if name in la.regions]) for name in names]
    digits = _digits([r.mae for _, rows in found for _, r in rows])
    groups: list[Group] = []
    for name, rows in found:
        group: Group = [("head", f"{name} ({rows[0][1].voxels:,} voxels)", [])]
        group += [("under", layer.layer, _errors(region, digits)) for layer, region in rows]
        groups.append(group)
    terms = {label: BY_KEY[label.lower()].meaning for label in ("MAE", "RMSE", "Bias")}
    columns = ["Region", *terms]
    return {"columns": columns, "groups": groups, "terms": terms} if groups else None


def _errors(region: RegionError, digits: int) -> list[str]:
    return [number(region.mae, digits), number(region.rmse, digits), number(region.bias, digits, signed=True)]


def _digits(values: Sequence[float]) -> int:
    return min(4, decimals(values)) if values else 1


def listed(layers: Sequence[LayerScore], say: Callable[[LayerScore], str]) -> str:
    """Say something of each layer, for a chart's description: "level1 45.1 dB; level2 39.0 dB"."""
    return "; ".join(f"{layer.layer} {say(layer)}" for layer in layers)
