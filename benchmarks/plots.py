"""Draw what the benchmarks found: NAME.png beside each NAME.json that has a picture.

    python benchmarks/plots.py benchmarks/results

`scaling.json`: time and memory against the size of a volume, with the slopes; `whole_path.json`: file to
file, each network; `throughput.json`: voxels a second of each level; `cohort.json`: studies a second against
workers.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Content = Mapping[str, Any]
_COLOUR, _OTHER = "#1f5f8b", "#b0b7bd"


def scaling(found: Content) -> Figure:
    """Time and memory against voxels, both axes logarithmic."""
    figure, axes = _figure(2)
    voxels = [row["voxels"] for row in found["rows"]]
    for axis, key, label in zip(axes, ("seconds", "peak_gib"), ("s", "GiB"), strict=True):
        axis.loglog(voxels, [row[key] for row in found["rows"]], "o-", color=_COLOUR)
        grows = found["slopes"][key]
        axis.set(xlabel="voxels", ylabel=label, title="" if grows is None else f"voxels to the {grows:.2f}")
        axis.grid(visible=True, alpha=0.3)
    return figure


def whole_path(found: Content) -> Figure:
    """Seconds from file to file, each network; a logarithmic axis."""
    figure, (axis,) = _figure(1)
    runs = [run for run in found["runs"] if run.get("wall")]
    _bars(axis, [run["name"] for run in runs], [run["wall"] for run in runs], "s", "medrecon")
    axis.set(xscale="log", xlabel="s, file to file (logarithmic)")
    return figure


def throughput(found: Content) -> Figure:
    """Million voxels a second of each level and precision; a logarithmic axis."""
    figure, (axis,) = _figure(1)
    rows = found["networks"]
    names = [f"{row['bundle']} {row['level']} {row['precision']}" for row in rows]
    values = [row["megavoxels_per_second"] for row in rows]
    _bars(axis, names, values, "", ("volume_autoencoder", "slice_autoencoder"))
    axis.set(xscale="log", xlabel="million voxels/s (logarithmic)")
    return figure


def cohort(found: Content) -> Figure | None:
    """Studies a second against workers, beside what they would be if none cost the other anything."""
    if "efficiency" not in found:
        return None
    figure, (axis,) = _figure(1)
    rates = {int(n): statistics.median(each) for n, each in found["efficiency"]["studies_per_second"].items()}
    workers = sorted(rates)
    axis.plot(workers, [n * rates[workers[0]] / workers[0] for n in workers], "--", color=_OTHER)
    axis.plot(workers, [rates[n] for n in workers], "o-", color=_COLOUR)
    axis.set(xlabel="workers", ylabel="studies/s", xticks=workers, ylim=(0, None))
    return figure


PICTURES: dict[str, Callable[[Content], Figure | None]] = {
    "scaling": scaling,
    "whole_path": whole_path,
    "throughput": throughput,
    "cohort": cohort,
}


def draw(folder: Path) -> list[Path]:
    """Draw all that a folder of results has a picture of.

    Returns:
        The pictures.
    """
    made = []
    for name, picture in PICTURES.items():
        source = folder / f"{name}.json"
        figure = picture(json.loads(source.read_text("utf-8"))) if source.is_file() else None
        if figure is not None:
            made.append(source.with_suffix(".png"))
            figure.savefig(made[-1], dpi=120)
    return made


def _figure(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def _bars(axis: Axes, names: Sequence[str], values: Sequence[float], unit: str, ours: Any) -> None:
    """Horizontal bars, the first on top, each with its number."""
    colours = [_COLOUR if name.startswith(ours) else _OTHER for name in names]
    bars = axis.barh(list(names), list(values), color=colours)
    numbers = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values]
    axis.bar_label(bars, [f"{number} {unit}".strip() for number in numbers], padding=3, fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, and say what was drawn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the benchmarks' JSON files are")
    args = parser.parse_args(argv)
    made = draw(args.folder)
    if not made:
        raise SystemExit(f"{args.folder}: none of {', '.join(f'{name}.json' for name in PICTURES)} is there")
    for path in made:
        print(path)


if __name__ == "__main__":
    main()
