"""Pictures of the benchmarks' results show what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.axes import Axes
from PIL import Image

from medrecon.report.palette import DARK, LIGHT, Look

Benchmark = Callable[[str], ModuleType]
LOOK = Look.of(dark=False)


def bars(axis: Axes, along: int) -> list[list[float]]:
    """Both ends of each error bar."""
    [segments] = [lines.get_segments() for lines in axis.collections]
    return [segment[:, along].round(6).tolist() for segment in segments]


def test_growth_and_workers_show_their_points_and_the_range_of_the_repeats(benchmark: Benchmark) -> None:
    plots = benchmark("plots")
    rows: list[dict[str, Any]] = [
        {"voxels": 10**n, "seconds": 2.0**n, "seconds_range": [2.0**n, 2.5**n], "peak_gib": n / 10}
        for n in (5, 6, 7)
    ]
    figure = plots.scaling({"rows": rows, "slopes": {"seconds": 0.301, "peak_gib": None}}, LOOK)
    time, memory = figure.axes
    assert time.lines[0].get_ydata().tolist() == [32, 64, 128]
    assert bars(time, 1)[0] == [32, pytest.approx(2.5**5)]
    assert memory.lines[0].get_ydata().tolist() == [0.5, 0.6, 0.7]
    assert all(low == high for low, high in bars(memory, 1)), "of one measurement there is no range"
    assert (time.get_title(), memory.get_title()) == ("voxels to the 0.30", "")
    rates = {"2": [3.0, 1.0, 2.0], "1": [1.0, 1.5, 1.25]}
    (axis,) = plots.cohort({"efficiency": {"studies_per_second": rates}}, LOOK).axes
    ideal, found = axis.lines[:2]
    assert (ideal.get_ydata().tolist(), found.get_ydata().tolist()) == ([1.25, 2.5], [1.25, 2.0])
    assert bars(axis, 1) == [[1.0, 1.5], [1.0, 3.0]]
    assert plots.cohort({"load": 0}, LOOK) is None


def test_networks_have_a_bar_each_but_those_that_did_not_run(benchmark: Benchmark) -> None:
    plots = benchmark("plots")
    runs: list[dict[str, Any]] = [
        {"name": "medrecon", "wall": 9.0, "walls": [8.0, 10.0]},
        {"name": "MedVAE", "missing": "pip install"},
        {"name": "AutoencoderKL", "wall": 567.0, "walls": [5.0, 6.0], "share": 0.01},
    ]
    (axis,) = plots.whole_path({"runs": runs}, LOOK).axes
    assert [bar.get_width() for bar in axis.patches] == [9, 567]
    assert bars(axis, 0) == [[8, 10], [567, 567]], "what was scaled from a crop has no range"
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["medrecon", "AutoencoderKL"]
    row = {"bundle": "slice_autoencoder", "level": "level4", "precision": "bfloat16"}
    (axis,) = plots.throughput({"networks": [{**row, "megavoxels_per_second": 4.7}]}, LOOK).axes
    assert [bar.get_width() for bar in axis.patches] == [4.7]


def test_what_is_there_is_drawn_light_and_dark(
    benchmark: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots, common = benchmark("plots"), benchmark("common")
    with pytest.raises(SystemExit, match=r"none of scaling\.json"):
        plots.main([str(tmp_path)])
    results = tmp_path / "whole_path.json"
    common.write_json(results, {"runs": [{"name": "a", "wall": 1.0}]})
    pictures = [tmp_path / "whole_path.png", tmp_path / "whole_path_dark.png"]
    assert capsys.readouterr().out.split()[1:] == [str(results), *map(str, pictures)]
    for path, colours in zip(pictures, (LIGHT, DARK), strict=True):
        with Image.open(path) as picture:
            assert "#{:02x}{:02x}{:02x}".format(*picture.convert("RGB").getpixel((0, 0))) == colours["paper"]  # type: ignore[misc]
        path.unlink()
    plots.main([str(tmp_path)])
    assert capsys.readouterr().out.split() == [str(path) for path in pictures]
    common.write_json(tmp_path / "other.json", {"a": 1})
    assert json.loads((tmp_path / "other.json").read_text()) == {"a": 1}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".png", ".png"]
