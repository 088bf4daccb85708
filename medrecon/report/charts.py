"""The charts of an atlas, on white: fidelity by depth and by bits, errors, and errors by frequency."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.report.palette import LIGHT, ramp
from medrecon.report.words import brief, shown, significant

_SIZE = (5.0, 3.55)
_MARKS = ("s", "^", "v", "D", "P", "X")
_DASHES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (0, (5, 2)),
    (0, (1, 1.6)),
    (0, (6, 2, 1, 2)),
    (0, (2, 2)),
)  # type: ignore[assignment]
_BINS = 161
_MOST = 1 << 22  # errors that a histogram is counted from


def depth_chart(scores: ScanScores) -> Figure:
    """PSNR of each layer, from shallow to deep, with every control beside it."""
    layers = shown(scores)
    with _axes("PSNR (dB)", "layer") as (figure, axes):
        places = np.arange(len(layers))
        names = dict.fromkeys(c.name for layer in layers for c in layer.controls)
        for number, name in enumerate(names):
            found = [next((c.psnr for c in layer.controls if c.name == name), math.nan) for layer in layers]
            if np.isfinite(found).any():
                axes.plot(
                    places,
                    _finite(found),
                    color=LIGHT["faint"],
                    lw=1,
                    ls=_DASHES[number % len(_DASHES)],
                    marker=_MARKS[number % len(_MARKS)],
                    ms=4,
                    label=brief(name),
                )
        axes.plot(
            places,
            _finite([layer.psnr for layer in layers]),
            color=LIGHT["accent"],
            lw=2,
            marker="o",
            ms=6,
            label="feature inversion",
            zorder=3,
        )
        labels = [brief(layer.layer) for layer in layers]
        tilted = sum(map(len, labels)) > 42
        axes.set_xticks(places, labels, rotation=30 if tilted else 0, ha="right" if tilted else "center")
        axes.set_xlim(-0.35, max(1, len(layers)) - 0.65)
        axes.margins(y=0.1)
        _legend(axes, last_first=True)
    return figure


def rate_chart(scores: ScanScores) -> Figure:
    """PSNR by bits per voxel: the layers' features and the codecs that hospitals use."""
    with _axes("PSNR (dB)", "bits per voxel") as (figure, axes):
        rates = []
        for number, (name, curve) in enumerate(scores.codec_curves.items()):
            points = sorted((b, p) for b, p in curve if b > 0 and math.isfinite(p))
            if points:
                rates += [b for b, _ in points]
                axes.plot(
                    *zip(*points, strict=True),
                    color=LIGHT["faint"],
                    lw=1.2,
                    ls=_DASHES[number % len(_DASHES)],
                    marker=_MARKS[number % len(_MARKS)],
                    ms=3,
                    label=brief(name),
                )
        own = [
            (layer.bits_per_voxel, layer.psnr, brief(layer.layer))
            for layer in shown(scores)
            if layer.bits_per_voxel and math.isfinite(layer.psnr)
        ]
        if own:
            rates += [b for b, _, _ in own]
            axes.plot(
                [b for b, _, _ in own],
                [p for _, p, _ in own],
                color=LIGHT["accent"],
                lw=0,
                marker="o",
                ms=7,
                label="features at 8 bits",
                zorder=3,
            )
            for rate, value, name in own:
                _tag(axes, name, (rate, value), (7, -3))
        axes.set_xscale("log", base=2)
        if rates:
            _powers(axes, rates)
        axes.margins(y=0.1)
        _legend(axes, last_first=True)
    return figure


def histogram_chart(scores: ScanScores, volumes: AtlasVolumes) -> Figure:
    """How often each size of error occurs, over the whole scan."""
    layers = [layer for layer in shown(scores) if layer.layer in volumes.reconstructions]
    unit = f" ({brief(scores.units)})" if scores.units else ""
    with _axes("share of voxels (%)", f"reconstruction − source{unit}") as (figure, axes):
        step = max(1, volumes.source.size // _MOST)
        source = volumes.source.reshape(-1)[::step].astype(np.float32)
        found = [volumes.reconstructions[layer.layer].reshape(-1)[::step] - source for layer in layers]
        reach = max((float(np.percentile(np.abs(e), 99.7)) for e in found), default=0.0) or 1.0
        edges = np.linspace(-reach, reach, _BINS)
        for place, (layer, errors) in enumerate(zip(layers, found, strict=True)):
            share = np.histogram(errors, edges)[0] / max(1, errors.size)
            axes.plot(
                (edges[1:] + edges[:-1]) / 2,
                np.where(share > 0, share, np.nan),
                color=_colours(scores)[layer.layer],
                lw=1.6,
                drawstyle="steps-mid",
                label=brief(layer.layer),
                **_mark(place, _BINS),
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-reach, reach)
        axes.axvline(0, color=LIGHT["rule"], lw=0.8, zorder=1)
        _legend(axes)
    return figure


def spectrum_chart(scores: ScanScores) -> Figure:
    """Error power over the source's power, by spatial frequency; each layer's limit is marked."""
    with _axes("error power / source power", "line pairs per mm") as (figure, axes):
        top = 0.0
        for place, layer in enumerate(shown(scores)):
            spectrum = layer.spectrum
            if not spectrum.frequencies:
                continue
            top = max(top, spectrum.frequencies[-1])
            axes.plot(
                spectrum.frequencies,
                _finite(spectrum.error),
                color=_colours(scores)[layer.layer],
                lw=1.6,
                label=brief(layer.layer),
                **_mark(place, len(spectrum.frequencies)),
            )
            if spectrum.limit:
                axes.plot(spectrum.limit, 0.5, "|", color=_colours(scores)[layer.layer], ms=13, mew=2)
        axes.axhline(0.5, color=LIGHT["faint"], lw=1, ls=(0, (5, 2)))
        axes.set_ylim(0, 1.5)
        axes.set_xlim(0, top or 1)
        _tag(axes, "half of the source's power", (top or 1, 0.5), (-2, 4), "right")
        _legend(axes)
    return figure


def cohort_chart(scans: Sequence[ScanScores], layers: Sequence[str]) -> Figure:
    """PSNR of many scans by layer: each a dot, their mean a line, and the mean of the linear code dashed."""
    with _axes("PSNR (dB)", "layer") as (figure, axes):
        own: list[float] = []
        code: list[float] = []
        for place, name in enumerate(layers):
            found = [layer for scores in scans for layer in shown(scores) if layer.layer == name]
            values = [layer.psnr for layer in found if math.isfinite(layer.psnr)]
            linear = [
                c.psnr
                for layer in found
                for c in layer.controls
                if c.name == "linear code" and math.isfinite(c.psnr)
            ]
            spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(place + spread, values, "o", ms=4, color=LIGHT["faint"], alpha=0.7, mew=0)
            own.append(float(np.mean(values)) if values else math.nan)
            code.append(float(np.mean(linear)) if linear else math.nan)
        axes.plot(_finite(own), color=LIGHT["accent"], lw=2, marker="D", ms=6, label="mean", zorder=3)
        if np.isfinite(code).any():
            axes.plot(_finite(code), color=LIGHT["faint"], lw=1, ls=_DASHES[0], label="linear code, mean")
        axes.set_xticks(range(len(layers)), [brief(name) for name in layers])
        axes.set_xlim(-0.4, max(1, len(layers)) - 0.6)
        _legend(axes)
    return figure


@contextmanager
def _axes(upward: str, across: str) -> Iterator[tuple[Figure, Axes]]:
    """Axes in the page's look; text is taken as it is, never as a formula."""
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=_SIZE, facecolor=LIGHT["paper"], layout="constrained")
        axes = figure.add_subplot(facecolor=LIGHT["paper"])
        axes.set_xlabel(across, color=LIGHT["faint"], fontsize=9)
        axes.set_ylabel(upward, color=LIGHT["faint"], fontsize=9)
        axes.tick_params(which="both", colors=LIGHT["faint"], labelsize=8.5, length=0)
        axes.grid(color=LIGHT["line"], lw=0.7)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(LIGHT["rule"])
        axes.set_axisbelow(True)
        yield figure, axes


def _legend(axes: Axes, last_first: bool = False) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if last_first:
        handles, labels = handles[::-1], labels[::-1]
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=1 if max(map(len, labels)) > 34 else (2 if max(map(len, labels)) > 14 else 4),
            frameon=False,
            labelcolor=LIGHT["ink"],
            fontsize=8.5,
            handlelength=2.2,
            columnspacing=1.4,
            borderaxespad=0.2,
        )


def _tag(
    axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], side: str = "left"
) -> None:
    axes.annotate(
        text,
        point,
        offset,
        textcoords="offset points",
        ha=side,
        color=LIGHT["ink"],
        fontsize=8.5,
        path_effects=[withStroke(linewidth=2.5, foreground=LIGHT["paper"])],
        zorder=5,
    )


def _powers(axes: Axes, rates: list[float]) -> None:
    """Mark an axis of rates at powers of two, not more of them than can be read."""
    low, high = math.floor(math.log2(min(rates))), math.ceil(math.log2(max(rates)))
    step = max(1, math.ceil((high - low) / 7))
    axes.xaxis.set_major_locator(FixedLocator([2.0**k for k in range(low, high + 1, step)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 2)))
    axes.set_xlim(2.0 ** (math.log2(min(rates)) - 0.3), 2.0 ** (math.log2(max(rates)) + 0.9))


def _colours(scores: ScanScores) -> dict[str, str]:
    layers: tuple[LayerScore, ...] = scores.layers
    return {layer.layer: c for layer, c in zip(layers, ramp(len(layers)), strict=True)}


def _mark(place: int, points: int) -> dict[str, Any]:
    """A mark of its own for each line, a few along it: lines must not differ by colour alone."""
    marks = ("o", *_MARKS)
    every = max(1, points // 8)
    return {"marker": marks[place % len(marks)], "ms": 3.5, "markevery": (place * every // 4, every)}


def _finite(values: object) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)
