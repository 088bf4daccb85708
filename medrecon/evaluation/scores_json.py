"""The scores of a scan as JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from medrecon.evaluation.scores import ScanScores

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
        scores: ScanScores = _made(ScanScores, data)
        return scores
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the scores of a scan: {error}") from error


def _made(kind: Any, value: Any, name: str = "") -> Any:
    """What a type makes of plain values: a dataclass of its fields, and so on inwards."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        there = [item.name for item in fields(kind) if item.name in value or item.default is not None]
        return kind(**{field: _made(hints[field], value[field], field) for field in there})  # type: ignore[operator]
    if kind is float and value is None:
        return math.inf if name in ("psnr", "codec_curves") else math.nan
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return tuple(_made(*pair, name) for pair in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: _made(inner[1], each, name) for key, each in value.items()}
    return value if value is None or origin is None else _made(inner[0], value, name)  # an optional one


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
