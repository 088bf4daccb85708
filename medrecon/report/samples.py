"""Samples in the page: what all agree on and what each makes up, as pictures and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medrecon.evaluation.sample_intervals import LEVELS
from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.report import words
from medrecon.report.planes import View
from medrecon.report.tiles import SMALL, SURE_MAP, Picture, coloured, gray


def sample_rows(scores: ScanScores, volumes: AtlasVolumes, view: View) -> dict[str, list[Picture]]:
    """Layer -> source, decoder, samples, mean, standard deviation and agreement on the axial slice."""
    low, high = scores.window
    made: dict[str, list[Picture]] = {}
    for name, drawn in volumes.samples.items():
        source, recon = (
            view.cut(volume, "axial").astype(np.float32)
            for volume in (volumes.source, volumes.reconstructions[name])
        )
        plain = [("source", source), ("decoder", recon)]
        plain += [(f"sample {n}", image) for n, image in enumerate(drawn.samples, start=1)]
        plain.append(("mean of all", drawn.mean))
        row = [
            Picture(caption, f"{caption}, {name}", gray(image, low, high, SMALL)) for caption, image in plain
        ]
        most = float(np.percentile(drawn.deviation, 99.5)) or 1.0
        spread = f"made up: 0 to {words.amount(most, scores.units)}"
        row.append(
            Picture(
                spread,
                f"standard deviation of the samples of {name}",
                coloured(drawn.deviation, 0, most, SURE_MAP, SMALL),
            )
        )
        row.append(
            Picture(
                "agreed on: 0 to 100 %",
                f"share of detail that all samples of {name} show",
                coloured(drawn.agreement, 0, 1, SURE_MAP, SMALL),
            )
        )
        made[name] = row
    return made


def sample_table(scores: ScanScores) -> dict[str, Any] | None:
    """Coverage and half width of each interval; None where no samples were drawn."""
    layers = [layer for layer in scores.layers if layer.samples is not None]
    if not layers:
        return None
    unit = f" ({scores.units})" if scores.units else ""
    columns = ["Interval"]
    for level in LEVELS:
        columns += [f"Inside the {level:.0%} one (%)", f"Half width{unit}"]
    return {"columns": columns, "groups": [_group(layer) for layer in layers]}


def _group(layer: LayerScore) -> list[tuple[str, str, Sequence[str]]]:
    drawn = layer.samples
    if drawn is None:
        return []
    found = {(each.way, each.level): each for each in drawn.intervals}
    group: list[tuple[str, str, Sequence[str]]] = [("head", f"{layer.layer}, {drawn.count} samples", [])]
    for way in dict.fromkeys(each.way for each in drawn.intervals):
        cells: list[str] = []
        for level in LEVELS:
            each = found[way, level]
            cells += [words.number(100 * each.coverage, 1), words.significant(each.width, 3)]
        group.append(("under", way, cells))
    return group


def sample_words(scores: ScanScores) -> list[tuple[str, str]]:
    """Layer -> what its samples tell, in a sentence."""
    said = []
    for layer in scores.layers:
        drawn = layer.samples
        if drawn is None:
            continue
        text = f"{drawn.shared:.0%} of the detail in a sample is in all of them; the rest each makes up."
        if drawn.feature_distance is not None and drawn.decoder_distance is not None:
            text += (
                f" The samples\u2019 features are {drawn.feature_distance:.2%} off, "
                f"the decoder\u2019s {drawn.decoder_distance:.2%}."
            )
        said.append((layer.layer, text))
    return said
