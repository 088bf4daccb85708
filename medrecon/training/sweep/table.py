"""The table of a sweep: one row a variant, what is best at each cost, on disk as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.io.files.atomic import write_whole
from medrecon.io.files.table import csv_text
from medrecon.training.sweep.measure import MEASURES

COSTS = {"parameters": "parameters", "training": "train_seconds", "inference": "inference_seconds"}
"""Pareto front -> the column that it holds against held-out PSNR."""


TIMING_NOISE = 0.1
"""Share by which two times must differ to count as different: runs of the same variant differ by as much."""


def pareto(points: Sequence[tuple[float, float]], noise: float = 0.0) -> list[bool]:
    """Which points (cost, value) no other beats: none costs less for the same value, or gives more for it.

    Args:
        points: cost and value of each.
        noise: costs that differ by less than this share of the larger are the same.

    Example:
        >>> pareto([(1, 20.0), (2, 25.0), (3, 24.0), (2, 23.0)])
        [True, True, False, False]
    """

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        (cost, value), (own_cost, own) = one, other
        same = abs(cost - own_cost) <= noise * max(cost, own_cost)
        cheaper = cost < own_cost and not same
        return (cheaper and value >= own) or ((cheaper or same) and value > own)

    return [not any(beats(one, other) for one in points) for other in points]


def mark_fronts(rows: Sequence[dict[str, Any]]) -> None:
    """Set each row's `pareto`: for parameters, training and inference time, whether it lies on the front."""
    fronts = {}
    for name, column in COSTS.items():
        values = [row["held_out"]["psnr"] for row in rows]
        points = [
            (row[column], float("inf") if psnr is None else psnr)
            for row, psnr in zip(rows, values, strict=True)
        ]
        fronts[name] = pareto(points, 0.0 if name == "parameters" else TIMING_NOISE)
    for index, row in enumerate(rows):
        row["pareto"] = {name: marks[index] for name, marks in fronts.items()}


def write_table(folder: Path, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write sweep.json and sweep.csv, each replaced whole.

    Raises:
        OutputError: they cannot be written.
    """
    texts = {
        "sweep.json": json.dumps({**facts, "variants": list(rows)}, indent=2, allow_nan=False) + "\n",
        "sweep.csv": csv_text([_flat(row) for row in rows]),
    }
    return [write_whole(folder / name, text) for name, text in texts.items()]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"variant": row["variant"], **row["knobs"]}
    plain = ("parameters", "steps", "train_seconds", "inference_seconds", "gap_db")
    line |= {key: row[key] for key in plain}
    for part in ("held_out", "training"):
        line |= {f"{part}_{measure}": row[part][measure] for measure in MEASURES}
    return line | {f"pareto_{name}": mark for name, mark in row.get("pareto", {}).items()}
