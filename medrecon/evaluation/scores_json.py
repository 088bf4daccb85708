"""The scores of a scan as JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from medrecon.evaluation.sample_scores import SampleInterval, SampleScore
from medrecon.evaluation.scores import (
    Control,
    Finding,
    FindingKept,
    LayerScore,
    OutputKept,
    RegionError,
    ScanScores,
    Spectrum,
    Told,
)

FORMAT = "medrecon-atlas-2"
"""Name of the JSON that `to_json` writes."""


def to_json(scores: ScanScores) -> dict[str, Any]:
    """Plain values for `json.dump(..., allow_nan=False)`.

    JSON has neither infinity nor NaN: both become null. `from_json` reads a null PSNR as infinite (nothing
    was lost) and any other null that is not optional as NaN.
    """
    content: dict[str, Any] = _plain(asdict(scores))
    return {"format": FORMAT, **content}


def from_json(data: Mapping[str, Any]) -> ScanScores:
    """Undo `to_json`.

    Raises:
        ValueError: not what `to_json` writes; the message names the field.
    """
    if data.get("format") != FORMAT:
        raise ValueError(f"format is {data.get('format')!r}, not {FORMAT!r}")
    try:
        values = {**data, "layers": tuple(_layer(layer) for layer in data["layers"])}
        values["findings"] = tuple(_make(Finding, finding) for finding in data["findings"])
        values["codec_curves"] = {
            name: tuple((rate, _psnr(psnr)) for rate, psnr in curve)
            for name, curve in data["codec_curves"].items()
        }
        return _make(ScanScores, values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the scores of a scan: {error}") from error


def _layer(data: Mapping[str, Any]) -> LayerScore:
    controls = tuple(_make(Control, c) for c in data["controls"])
    regions = {name: _make(RegionError, region) for name, region in data["regions"].items()}
    spectrum = _make(Spectrum, {**data["spectrum"], "error": [_nan(v) for v in data["spectrum"]["error"]]})
    told = None if data.get("told") is None else _make(Told, data["told"])
    output = None if data.get("output") is None else _make(OutputKept, data["output"])
    there = None if data["there"] is None else _make(Control, data["there"])
    findings = {name: _make(FindingKept, kept) for name, kept in data["findings"].items()}
    parts = {
        "findings": findings,
        "regions": regions,
        "spectrum": spectrum,
        "there": there,
        "controls": controls,
        "told": told,
        "output": output,
        "samples": None if data.get("samples") is None else _samples(data["samples"]),
    }
    return _make(LayerScore, {**data, **parts})


def _samples(data: Mapping[str, Any]) -> SampleScore:
    intervals = tuple(_make(SampleInterval, each) for each in data["intervals"])
    made: SampleScore = _make(SampleScore, {**data, "intervals": intervals})
    return made


def _make(kind: Any, data: Mapping[str, Any]) -> Any:
    values = {}
    for item in fields(kind):
        value = data[item.name]
        if item.name == "psnr":
            value = _psnr(value)
        elif item.type == "float":
            value = _nan(value)
        elif isinstance(value, list):
            value = tuple(value)
        values[item.name] = value
    return kind(**values)


def _psnr(value: float | None) -> float:
    return math.inf if value is None else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
