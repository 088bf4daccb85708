"""Draw what the benchmarks found: NAME.png and NAME_dark.png beside each NAME.json that has a picture.

    python benchmarks/plots.py benchmarks/results

`scaling.json`: time and memory against the size of a volume, with the slopes; `whole_path.json`: file to
file, each network; `throughput.json`: voxels a second of each level; `cohort.json`: studies a second against
workers. Each benchmark draws its own as it ends. Points are the figures of its table; a bar around one goes
from the least to the most of the repeats; no picture calls a winner.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from medrecon.report.palette import Look
from medrecon.report.style import chart_axes, new_figure, save
from medrecon.report.sweep import amount

Content = Mapping[str, Any]
Range = tuple[float, float]


def scaling(found: Content, look: Look) -> Figure:
    """Time and memory against voxels, both axes logarithmic."""
    figure, axes = _figure(2, look)
    voxels = [row["voxels"] for row in found["rows"]]
    for axis, key, label in zip(axes, ("seconds", "peak_gib"), ("s", "GiB"), strict=True):
        values = [row[key] for row in found["rows"]]
        _points(axis, voxels, values, [_range(row.get(f"{key}_range")) for row in found["rows"]], look)
        axis.set(xscale="log", yscale="log", xlabel="voxels", ylabel=label)
        _few_labels(axis.xaxis, axis.yaxis)
        grows = found["slopes"][key]
        axis.set_title("" if grows is None else f"voxels to the {grows:.2f}", color=look.ink, fontsize=9)
    return figure


def whole_path(found: Content, look: Look) -> Figure:
    """Seconds from file to file, each network; a logarithmic axis."""
    runs = [run for run in found["runs"] if run.get("wall")]
    figure, (axis,) = _figure(1, look, len(runs))
    # of a network that was timed on a crop the repeats are of the crop: no bar
    ranges = [_range(run.get("walls")) if run.get("share", 1.0) == 1.0 else None for run in runs]
    _bars(axis, [run["name"] for run in runs], [run["wall"] for run in runs], ranges, "s", "medrecon", look)
    axis.set_xlabel("s, file to file (logarithmic)")
    _few_labels(axis.xaxis)
    return figure


def throughput(found: Content, look: Look) -> Figure:
    """Million voxels a second of each level and precision; a logarithmic axis."""
    rows = found["networks"]
    figure, (axis,) = _figure(1, look, len(rows))
    names = [f"{row['bundle']} {row['level']} {row['precision']}" for row in rows]
    values = [row["megavoxels_per_second"] for row in rows]
    ranges = [_range(row.get("megavoxels_per_second_range")) for row in rows]
    _bars(axis, names, values, ranges, "", ("volume_autoencoder", "slice_autoencoder"), look)
    axis.set_xlabel("million voxels/s (logarithmic)")
    _few_labels(axis.xaxis)
    return figure


def cohort(found: Content, look: Look) -> Figure | None:
    """Studies a second against workers, beside what they would be if none cost the other anything."""
    if "efficiency" not in found:
        return None
    figure, (axis,) = _figure(1, look)
    all_rates = {int(n): each for n, each in found["efficiency"]["studies_per_second"].items()}
    workers = sorted(all_rates)
    rates = [statistics.median(all_rates[n]) for n in workers]
    ideal = [n * rates[0] / workers[0] for n in workers]
    axis.plot(workers, ideal, "--", color=look.faint, lw=1, label="if none cost the other anything")
    _points(axis, workers, rates, [_range(all_rates[n]) for n in workers], look)
    axis.set(xlabel="workers", ylabel="studies/s", xticks=workers, ylim=(0, None))
    axis.legend(loc="lower right", frameon=False, labelcolor=look.ink, fontsize=8)
    return figure


PICTURES: dict[str, Callable[[Content, Look], Figure | None]] = {
    "scaling": scaling,
    "whole_path": whole_path,
    "throughput": throughput,
    "cohort": cohort,
}


def draw(results: Path) -> list[Path]:
    """Draw one file of results, light and dark.

    Returns:
        The pictures; none where the benchmark has no picture.
    """
    picture = PICTURES.get(results.stem)
    if picture is None or not results.is_file():
        return []
    found = json.loads(results.read_text("utf-8"))
    made = []
    for ending, dark in (("", False), ("_dark", True)):
        figure = picture(found, Look.of(dark))
        if figure is not None:
            made += save(figure, results.with_name(f"{results.stem}{ending}.png"))
    return made


def _range(values: Sequence[float] | None) -> Range | None:
    """Least and most of the repeats; None of one alone."""
    return (min(values), max(values)) if values and len(values) > 1 else None


def _figure(count: int, look: Look, bars: int = 0) -> tuple[Figure, list[Axes]]:
    figure = new_figure(9, max(3.6, 0.9 + 0.26 * bars), look.paper)
    figure.set_layout_engine("constrained")
    axes = [figure.add_subplot(1, count, number + 1) for number in range(count)]
    for axis in axes:
        chart_axes(axis, look)
    figure.supxlabel("bars: least to most of the repeats", color=look.faint, fontsize=7.5, x=0.01, ha="left")
    return figure, axes


def _few_labels(*logarithmic: Axis) -> None:
    """Numbers at 1, 2 and 5 of each decade where it is one, at 1 alone where there are more."""
    for axis in logarithmic:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
        axis.set_minor_formatter(NullFormatter())


def _points(
    axis: Axes, x: Sequence[float], y: Sequence[float], ranges: Sequence[Range | None], look: Look
) -> None:
    axis.plot(x, y, "o-", color=look.accent)
    axis.errorbar(x, y, _reach(y, ranges), ls="", color=look.accent, lw=1, capsize=3)


def _bars(
    axis: Axes,
    names: Sequence[str],
    values: Sequence[float],
    ranges: Sequence[Range | None],
    unit: str,
    ours: Any,
    look: Look,
) -> None:
    """Horizontal bars on a logarithmic axis, the first on top, each with its number beyond its repeats."""
    places = list(range(len(names)))
    colours = [look.accent if name.startswith(ours) else look.rule for name in names]
    axis.set_xscale("log")
    axis.barh(places, list(values), color=colours, height=0.62, zorder=2)
    reach = _reach(values, ranges)
    axis.errorbar(list(values), places, xerr=reach, ls="", color=look.ink, lw=1, capsize=3, zorder=3)
    for place, value, most in zip(places, values, reach[1], strict=True):
        number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axis.annotate(
            f"{number} {unit}".strip(),
            (value + most, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=look.ink,
            fontsize=8,
        )
    axis.set_yticks(places, list(names))
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    axis.set_xlim(0.5 * min(values), 3 * max(v + m for v, m in zip(values, reach[1], strict=True)))


def _reach(values: Sequence[float], ranges: Sequence[Range | None]) -> list[list[float]]:
    """How far each bar reaches below and above its value."""
    pairs = [(v, v) if r is None else r for v, r in zip(values, ranges, strict=True)]
    below = [max(0.0, v - low) for v, (low, _) in zip(values, pairs, strict=True)]
    return [below, [max(0.0, high - v) for v, (_, high) in zip(values, pairs, strict=True)]]


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, and say what was drawn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the benchmarks' JSON files are")
    args = parser.parse_args(argv)
    made = [picture for name in PICTURES for picture in draw(args.folder / f"{name}.json")]
    if not made:
        raise SystemExit(f"{args.folder}: none of {', '.join(f'{name}.json' for name in PICTURES)} is there")
    for path in made:
        print(path)


if __name__ == "__main__":
    main()
