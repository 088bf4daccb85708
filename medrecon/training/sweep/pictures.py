"""The pictures of a sweep: what is kept against what it costs, and slices side by side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medrecon.io import publish
from medrecon.io.files.names import safe_name
from medrecon.report.sweep import sweep_figure, variants_figure
from medrecon.training.sweep.budget import Budget
from medrecon.training.sweep.run import PICTURES, Examiner
from medrecon.training.sweep.variants import Variant

MOST_COLUMNS = 5
"""Variants side by side in a picture; more would be stamps."""


def draw_table(
    rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], budget: Budget, output: Path
) -> list[Path]:
    """Each variant's quality against its cost, as PNG and SVG, light and dark; nothing without a figure."""
    if all(row["held_out"]["psnr"] is None for row in rows):
        return []
    title = f"{facts['bundle']}, {facts['layer']}: {budget.words()}"
    written = []
    for name, suffix in itertools.product(("sweep", "sweep_dark"), (".png", ".svg")):
        target = output / f"{name}{suffix}"
        with publish(target, overwrite=True) as hidden:
            (drawn,) = sweep_figure(
                rows,
                hidden.with_suffix(suffix),
                title=title,
                image=facts["image"],
                dark=name.endswith("dark"),
            )
            drawn.rename(hidden)
        written.append(target)
    return written


def draw_side_by_side(
    rows: Sequence[Mapping[str, Any]], variants: Sequence[Variant], examiner: Examiner, output: Path
) -> list[Path]:
    """One picture for the first held-out scan of each modality: its middle slice from each variant."""
    shown = {variant.name for variant in variants[:MOST_COLUMNS]}
    chosen = [row for row in rows if row["variant"] in shown]
    found: dict[str, int] = {}
    for index, sample in enumerate(examiner.samples["held_out"]):
        found.setdefault(sample.modality, index)
    written = []
    for index in found.values():
        sample = examiner.samples["held_out"][index]
        middle = slice(sample.image.shape[-1] // 2, sample.image.shape[-1] // 2 + 1)
        results = {}
        for row in chosen:
            with np.load(output / row["bundle"] / PICTURES) as pictures:
                image = torch.from_numpy(pictures[str(index)])[None]
            results[row["variant"]] = sample.stored(image)[..., middle]
        psnr = {row["variant"]: row["scans"]["held_out"][index]["psnr"] for row in chosen}
        target = output / f"slice_{safe_name(sample.label)}.png"
        with publish(target, overwrite=True) as hidden:
            (drawn,) = variants_figure(
                sample.stored(sample.image)[..., middle],
                results,
                sample.affine,
                sample.units,
                hidden.with_suffix(".png"),
                psnr=psnr,
            )
            drawn.rename(hidden)
        written.append(target)
    return written
