"""Pictures of a sweep say what was measured."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from medrecon.errors import UsageError
from medrecon.report.palette import DARK, LIGHT, Look
from medrecon.report.sweep import _label, _span, amount, plane_of, sweep_figure, variants_figure


def rows(psnr: float | None = 25.0) -> list[dict[str, Any]]:
    return [
        {
            "knobs": {"width": width, "depth": depth},
            "parameters": width**2 * depth,
            "train_seconds": 10.0 * depth,
            "inference_seconds": 0.01 * width,
            "held_out": {"psnr": None if psnr is None else psnr + depth},
            "training": {"psnr": None if depth == 1 else 40.0 + width},
            "pareto": {"parameters": depth == 1, "training": False, "inference": True},
        }
        for width in (16, 32)
        for depth in (1, 2)
    ]


def test_three_costs_and_both_kinds_of_scans(tmp_path: Path) -> None:
    written = sweep_figure(rows(), tmp_path / "sweep", title="relu3_3: 300 steps each")
    assert written == [tmp_path / "sweep.png", tmp_path / "sweep.svg"]
    drawing = written[1].read_text()
    for words in (
        "relu3_3: 300 steps each", "parameters", "seconds of training", "seconds for each slice",
        "PSNR (dB), scans held out", "PSNR (dB), trained on", "depth 1", "depth 2", "Pareto front",
        "numbers: width",
    ):  # fmt: skip
        assert f"{words} -->" in drawing, words


def test_one_knob_and_one_variant_are_enough(tmp_path: Path) -> None:
    one = rows()[:1]
    one[0]["knobs"] = {"recipe": "pixel"}
    sweep_figure(one, tmp_path / "sweep.svg", image="block")
    drawing = (tmp_path / "sweep.svg").read_text()
    assert "recipe pixel" in drawing
    assert "seconds for each block" in drawing
    assert "numbers" not in drawing


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variant to draw"):
        sweep_figure(rows(None), tmp_path / "sweep.png")


def test_a_slice_is_shown_beside_its_results(tmp_path: Path) -> None:
    source = np.random.default_rng(0).normal(100, 20, (40, 30, 1)).astype(np.float32)
    results = {"pixel": source + 5, "same": source}
    psnr = {"pixel": 20.0, "same": None}
    (path,) = variants_figure(source, results, np.eye(4), "", tmp_path / "slice.svg", psnr=psnr)
    drawing = path.read_text()
    assert drawing.count("<image") == 3 + 2 + 2, "three slices, two errors, two scales"
    for words in ("pixel", "20.0 dB", "identical"):
        assert f"<!-- {words}" in drawing


def test_a_slice_lies_in_its_own_plane() -> None:
    assert plane_of(np.diag([-1.0, -1, 5, 1])) == "axial"
    assert plane_of(np.array([[0.0, 0, 5, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])) == "sagittal"
    assert plane_of(np.array([[1, 0, 0, 0], [0, 0.2, 5, 0], [0, -1, 1, 0], [0, 0, 0, 1]])) == "coronal"


def test_numbers_are_short() -> None:
    assert [amount(v) for v in (1_234_567, 320_400, 12.0, 0.0521)] == ["1.23 M", "320 k", "12", "0.0521"]


def test_labels_stand_beside_each_other() -> None:
    """Five variants at one place: each label has a place of its own."""
    axes = Figure(figsize=(4, 3)).add_subplot()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    _label(axes, [(str(8 * k), (5.0, 5.0 + 0.01 * k)) for k in range(1, 6)], Look.of(dark=False))
    shifts = [text.xyann for text in axes.texts]
    assert all(abs(a[0] - b[0]) > 6 or abs(a[1] - b[1]) > 6 for a, b in itertools.combinations(shifts, 2))
    assert all(abs(dx) > 4 or abs(dy) > 8 for dx, dy in shifts), "none lies on a point"


def test_bars_are_the_standard_error_over_scans_and_dark_is_dark(tmp_path: Path) -> None:
    some = rows()
    for row in some:
        row["scans"] = {"held_out": [{"psnr": 20.0}, {"psnr": 24.0}], "training": [{"psnr": None}]}
    low, high = _span(some, "held_out")
    assert low < min(row["held_out"]["psnr"] for row in some) - 2, "a bar of 2 dB is not cut"
    assert high > max(row["held_out"]["psnr"] for row in some) + 2
    sweep_figure(rows(), tmp_path / "plain.svg")
    sweep_figure(some, tmp_path / "bars.svg")
    sweep_figure(some, tmp_path / "dark.svg", dark=True)
    plain, bars, dark = ((tmp_path / f"{n}.svg").read_text() for n in ("plain", "bars", "dark"))
    assert bars != plain
    assert LIGHT["paper"] in bars
    assert DARK["paper"] in dark
    assert LIGHT["ink"] not in dark
