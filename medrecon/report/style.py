"""One look for all of the project's pictures, without a word to matplotlib's global state."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from medrecon.errors import OutputError, UsageError, told_as
from medrecon.report.palette import Look

PAPER, INK, FAINT = "#0e1116", "#f0f3f6", "#9aa4b2"
ACCENTS = ("#5ab0ff", "#ffb454", "#7ee2a8", "#ff7b89", "#c9a6ff")

# dark where the error is zero, so that only errors light up: blue below the source, amber above
ERROR_MAP = LinearSegmentedColormap.from_list(
    "medrecon_error",
    ["#d6f0ff", "#63b8ff", "#1f6fd0", "#123a70", "#0b0d11", "#6b3410", "#c8641a", "#ffab40", "#fff0cf"],
)

DPI = 190


def new_figure(width: float, height: float, paper: str = PAPER) -> Figure:
    """Make an empty figure, in inches, that belongs to no window and no pyplot."""
    return Figure(figsize=(width, height), facecolor=paper)


def bare_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes without ticks or frame, placed in inches from the figure's lower left corner."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.set_axis_off()
    return axes


def chart_axes(axes: Axes, look: Look) -> None:
    """Axes of a chart as the report draws them: two spines, a pale grid, no ticks."""
    axes.set_facecolor(look.paper)
    axes.tick_params(colors=look.faint, labelsize=8, length=0, which="both")
    axes.grid(color=look.line, lw=0.7)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=look.faint, fontsize=8.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(look.rule)


def make_folder(folder: Path) -> None:
    """Make a folder for figures.

    Raises:
        OutputError: it cannot be made.
    """
    with told_as(OutputError, "cannot be made", path=folder):
        folder.mkdir(parents=True, exist_ok=True)


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write a figure as PNG or SVG, by the path's suffix; as both where it has none.

    Raises:
        UsageError: another suffix.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in ("", ".png", ".svg"):
        raise UsageError(
            f"cannot draw a {path.suffix} file", path=path, remedy="name a .png or .svg file, or none of them"
        )
    targets = [path] if path.suffix else [path.with_name(f"{path.name}{end}") for end in (".png", ".svg")]
    for target in targets:
        remedy = "choose a folder that exists and can be written"
        # the salt makes equal figures equal files; the context puts the global settings back
        with (
            told_as(OutputError, "cannot write the picture", path=target, remedy=remedy),
            matplotlib.rc_context({"svg.hashsalt": "medrecon"}),
        ):
            metadata = {"Date": None} if target.suffix == ".svg" else {"Software": "medrecon"}
            figure.savefig(target, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    return targets
