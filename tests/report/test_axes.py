"""What all charts share."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from medrecon.report.axes import legend


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("length", [4, 20, 40])
def test_a_legend_reads_row_by_row(count: int, length: int) -> None:
    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot()
    names = [f"{number:0{length}d}" for number in range(count)]
    for name in names:
        axes.plot([0, 1], [0, 1], label=name)
    legend(axes)
    figure.draw_without_rendering()
    drawn = axes.get_legend().get_texts()
    places = {text.get_text(): text.get_window_extent() for text in drawn}
    read = sorted(places, key=lambda name: (-round(places[name].y0), places[name].x0))
    assert read == names
