"""Pictures of the benchmarks' results show what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Benchmark = Callable[[str], ModuleType]


def test_growth_and_workers_show_their_points(benchmark: Benchmark) -> None:
    plots = benchmark("plots")
    rows = [{"voxels": 10**n, "seconds": 2.0**n, "peak_gib": n / 10} for n in (5, 6, 7)]
    figure = plots.scaling({"rows": rows, "slopes": {"seconds": 0.301, "peak_gib": None}})
    time, memory = figure.axes
    assert time.lines[0].get_ydata().tolist() == [32, 64, 128]
    assert memory.lines[0].get_ydata().tolist() == [0.5, 0.6, 0.7]
    assert (time.get_title(), memory.get_title()) == ("voxels to the 0.30", "")
    rates = {"2": [3.0, 1.0, 2.0], "1": [1.0, 1.5, 1.25]}
    (axis,) = plots.cohort({"efficiency": {"studies_per_second": rates}}).axes
    ideal, found = axis.lines
    assert (ideal.get_ydata().tolist(), found.get_ydata().tolist()) == ([1.25, 2.5], [1.25, 2.0])
    assert plots.cohort({"load": 0}) is None


def test_networks_have_a_bar_each_but_those_that_did_not_run(benchmark: Benchmark) -> None:
    plots = benchmark("plots")
    runs = [{"name": "medrecon", "wall": 9.0}, {"name": "MedVAE", "missing": "pip install"}]
    (axis,) = plots.whole_path({"runs": [*runs, {"name": "AutoencoderKL", "wall": 567.0}]}).axes
    assert [bar.get_width() for bar in axis.patches] == [9, 567]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["medrecon", "AutoencoderKL"]
    row = {"bundle": "slice_autoencoder", "level": "level4", "precision": "bfloat16"}
    (axis,) = plots.throughput({"networks": [{**row, "megavoxels_per_second": 4.7}]}).axes
    assert [bar.get_width() for bar in axis.patches] == [4.7]


def test_what_is_there_is_drawn(
    benchmark: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = benchmark("plots")
    with pytest.raises(SystemExit, match=r"none of scaling\.json"):
        plots.main([str(tmp_path)])
    (tmp_path / "whole_path.json").write_text(json.dumps({"runs": [{"name": "a", "wall": 1.0}]}))
    plots.main([str(tmp_path)])
    assert capsys.readouterr().out.split() == [str(tmp_path / "whole_path.png")]
    assert (tmp_path / "whole_path.png").read_bytes().startswith(b"\x89PNG")
