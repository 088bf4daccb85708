"""What a scene says in words and figures: descriptions, attributes and the table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medrecon.evaluation.measures import MEASURES
from medrecon.evaluation.scores import LayerScore, ScanScores

MEANING = {
    "error": "reconstruction - source",
    "uncertainty": "half width of the 90 % interval",
    "features": "the strongest channel of the layer's features",
    "invented": "by how much the decoder's detail lies outside its interval",
    "sample": "a plausible scan that has the layer's features: generated, not measured",
    "mean": "mean of the samples: generated, not measured",
    "standard deviation": "standard deviation of the samples: what each of them makes up",
}
_NOT_FOR_DIAGNOSIS = "Research only, not for diagnosis."


def describe_source(scores: ScanScores) -> str:
    """What was measured, with which model, and what must be said."""
    facts = [f"{key}: {value}" for key, value in scores.facts.items()]
    return ". ".join([f"Source of the layer atlas {scores.label}".strip(), *facts, *scores.warnings])


def describe(score: LayerScore, units: str) -> str:
    """A layer's figures in one paragraph, never without its controls."""
    unit = f" {units}" if units else ""
    parts = [
        f"MAE {number(score.mae)}{unit}, RMSE {number(score.rmse)}{unit}, bias {number(score.bias)}{unit}",
        f"PSNR {decibels(score.psnr)} (range {number(score.data_range)}{unit}), SSIM {number(score.ssim)}",
    ]
    if score.values_per_voxel is not None:
        parts.append(f"{number(score.values_per_voxel)} values per voxel")
    if score.spectrum.limit is not None:
        parts.append(f"lost beyond {number(score.spectrum.limit)} line pairs per mm")
    parts += [f"same PSNR as {name} at {number(rate)} bits per voxel" for name, rate in _rates(score)]
    controls = [f"{c.name} {decibels(c.psnr)}" for c in score.controls]
    parts.append(f"controls: {', '.join(controls)}" if controls else "controls were not measured")
    return ". ".join([f"{score.layer}: {parts[0]}", *parts[1:], _NOT_FOR_DIAGNOSIS])


def alone(score: LayerScore, scores: ScanScores, step: float) -> str:
    """The same for the only layer of a scene, with what the scene leaves out."""
    others = [other.layer for other in scores.layers if other.layer != score.layer]
    said = [f"Kept in steps of {number(step)} {scores.units}".rstrip()] if step else []
    said += [f"Not in this scene: {', '.join([*others, 'errors'])}"]
    remedy = "report.html shows them, and medrecon atlas --full-scene puts them here"
    return ". ".join([f"{said[0]}", *said[1:], f"{remedy}. {describe(score, scores.units)}"])


def attributes(score: LayerScore) -> dict[str, str]:
    """A layer's figures for programs: keys without blanks."""
    figures = {measure.key: number(measure.of(score)) for measure in MEASURES}
    return {"layer": score.layer, **{key: value for key, value in figures.items() if value}}


def metrics(scores: ScanScores) -> list[list[str]]:
    """The table: a row for each layer, followed by its controls."""
    codecs = list(dict.fromkeys(name for layer in scores.layers for name in layer.codecs))
    titles = [measure.title(scores.units) for measure in MEASURES]
    rows = [["layer", "what", *titles, *(f"{name} (bits per voxel)" for name in codecs)]]

    for layer in scores.layers:
        figures = [*(measure.of(layer) for measure in MEASURES), *(layer.codecs.get(name) for name in codecs)]
        rows.append([layer.layer, "reconstruction", *map(number, figures)])
        for control in layer.controls:
            figures = [*(measure.of(control) for measure in MEASURES), *[None] * len(codecs)]
            rows.append([layer.layer, control.name, *map(number, figures)])
    return rows


def number(value: float | None) -> str:
    """Four digits; "exact" for infinite, nothing where there is no value."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.4g}" if math.isfinite(value) else "exact"


def decibels(value: float) -> str:
    """With the unit, but for an infinite value."""
    return f"{number(value)} dB" if math.isfinite(value) else number(value)


def _rates(score: LayerScore) -> Sequence[tuple[str, float]]:
    return [(name, rate) for name, rate in score.codecs.items() if rate is not None]
