"""The charts of an atlas, on white: fidelity by depth and by bits, errors, and errors by frequency."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.report.axes import MARKS, chart_axes, finite, legend, mark, powers, tag, visible
from medrecon.report.palette import LIGHT, ramp
from medrecon.report.words import LOSSLESS, brief, shown

_DASHES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (0, (5, 2)),
    (0, (1, 1.6)),
    (0, (6, 2, 1, 2)),
    (0, (2, 2)),
)  # type: ignore[assignment]
_BINS = 161
_MOST = 1 << 22  # errors that a histogram is counted from


def depth_chart(scores: ScanScores) -> Figure:
    """PSNR of each layer, from shallow to deep, with every control beside it, all of the same voxels."""
    layers = shown(scores)
    with chart_axes("PSNR (dB)", "layer") as (figure, axes):
        places = np.arange(len(layers))
        names = dict.fromkeys(c.name for layer in layers for c in layer.controls)
        for number, name in enumerate(names):
            found = [next((c.psnr for c in layer.controls if c.name == name), math.nan) for layer in layers]
            if (visible(found) > 0).any():
                axes.plot(
                    places,
                    visible(found),
                    color=LIGHT["faint"],
                    lw=1,
                    ls=_DASHES[number % len(_DASHES)],
                    marker=MARKS[number % len(MARKS)],
                    ms=4,
                    label=brief(name),
                )
        axes.plot(
            places,
            visible([(layer.there or layer).psnr for layer in layers]),
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
        for place, layer in enumerate(layers):
            if layer.psnr > LOSSLESS:
                edge = axes.get_xaxis_transform()
                axes.plot(place, 0.985, "^", ms=7, color=LIGHT["accent"], transform=edge, clip_on=False)
                axes.text(
                    place,
                    0.93,
                    "nothing lost",
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    color=LIGHT["ink"],
                    transform=edge,
                )
        axes.margins(y=0.1)
        legend(axes, last_first=True)
    return figure


def rate_chart(scores: ScanScores) -> Figure:
    """PSNR by bits per voxel: the layers' features and the codecs that hospitals use."""
    with chart_axes("PSNR (dB)", "bits per voxel") as (figure, axes):
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
                    marker=MARKS[number % len(MARKS)],
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
                label="features, coded",
                zorder=3,
            )
            for rate, value, name in own:
                tag(axes, name, (rate, value), (7, -3))
        axes.set_xscale("log", base=2)
        if rates:
            powers(axes, rates)
        axes.margins(y=0.1)
        legend(axes, last_first=True)
    return figure


def histogram_chart(scores: ScanScores, volumes: AtlasVolumes) -> Figure:
    """How often each size of error occurs, over the whole scan."""
    layers = [layer for layer in shown(scores) if layer.layer in volumes.reconstructions]
    unit = f" ({brief(scores.units)})" if scores.units else ""
    with chart_axes("share of voxels (%)", f"reconstruction − source{unit}") as (figure, axes):
        step = max(1, volumes.source.size // _MOST)
        source = volumes.source.reshape(-1)[::step].astype(np.float32)
        found = [volumes.reconstructions[layer.layer].reshape(-1)[::step] - source for layer in layers]
        reach = max((float(np.percentile(np.abs(e), 99.7)) for e in found), default=0.0) or 1.0
        edges = _edges(reach, all(not np.any(e[:: 1 + e.size // 1000] % 1) for e in found))
        for place, (layer, errors) in enumerate(zip(layers, found, strict=True)):
            share = np.histogram(errors, edges)[0] / max(1, errors.size)
            axes.plot(
                (edges[1:] + edges[:-1]) / 2,
                np.where(share > 0, share, np.nan),
                color=_colours(scores)[layer.layer],
                lw=1.6,
                drawstyle="steps-mid",
                label=brief(layer.layer),
                **mark(place, len(edges)),
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-reach, reach)
        axes.axvline(0, color=LIGHT["rule"], lw=0.8, zorder=1)
        legend(axes)
    return figure


def spectrum_chart(scores: ScanScores) -> Figure:
    """Error power over the source's power, by spatial frequency; each layer's limit is marked."""
    with chart_axes("error power / source power", "line pairs per mm") as (figure, axes):
        top = 0.0
        for place, layer in enumerate(shown(scores)):
            spectrum = layer.spectrum
            if not spectrum.frequencies:
                continue
            top = max(top, spectrum.frequencies[-1])
            axes.plot(
                spectrum.frequencies,
                finite(spectrum.error),
                color=_colours(scores)[layer.layer],
                lw=1.6,
                label=brief(layer.layer),
                **mark(place, len(spectrum.frequencies)),
            )
            if spectrum.limit:
                axes.plot(spectrum.limit, 0.5, "|", color=_colours(scores)[layer.layer], ms=13, mew=2)
        axes.axhline(0.5, color=LIGHT["faint"], lw=1, ls=(0, (5, 2)))
        axes.set_ylim(0, 1.5)
        axes.set_xlim(0, top or 1)
        tag(axes, "half of the source's power", (0, 0.5), (3, 4))
        legend(axes)
    return figure


def cohort_chart(scans: Sequence[ScanScores], layers: Sequence[str]) -> Figure:
    """PSNR of many scans by layer: each a dot, their mean a line, and the mean of the linear code dashed.

    Scans in different units refer to different ranges: then there is no mean.
    """
    alike = len({scores.units for scores in scans}) == 1
    with chart_axes("PSNR (dB)", "layer") as (figure, axes):
        own: list[float] = []
        code: list[float] = []
        for place, name in enumerate(layers):
            found = [layer for scores in scans for layer in shown(scores) if layer.layer == name]
            values = [(la.there or la).psnr for la in found if (la.there or la).psnr <= LOSSLESS]
            linear = [
                c.psnr
                for layer in found
                for c in layer.controls
                if c.name == "linear code" and c.psnr <= LOSSLESS
            ]
            spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(place + spread, values, "o", ms=4, color=LIGHT["faint"], alpha=0.7, mew=0)
            own.append(float(np.mean(values)) if values else math.nan)
            code.append(float(np.mean(linear)) if linear else math.nan)
        if alike:
            axes.plot(finite(own), color=LIGHT["accent"], lw=2, marker="D", ms=6, label="mean", zorder=3)
        if alike and np.isfinite(code).any():
            axes.plot(finite(code), color=LIGHT["faint"], lw=1, ls=_DASHES[0], label="linear code, mean")
        axes.set_xticks(range(len(layers)), [brief(name) for name in layers])
        axes.set_xlim(-0.4, max(1, len(layers)) - 0.6)
        legend(axes)
    return figure


def _colours(scores: ScanScores) -> dict[str, str]:
    layers: tuple[LayerScore, ...] = scores.layers
    return {layer.layer: c for layer, c in zip(layers, ramp(len(layers)), strict=True)}


def _edges(reach: float, whole: bool) -> np.ndarray:
    """Edges of the bins of errors; as many whole numbers in each where errors are whole: no comb appears."""
    if not whole:
        return np.linspace(-reach, reach, _BINS)
    width = math.ceil(2 * reach / _BINS) | 1
    places = math.ceil(reach / width)
    return (np.arange(-places, places + 2) - 0.5) * width
