"""What the figures say, in plain words and well-set numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medrecon.evaluation.scores import Control, LayerScore, ScanScores

LONGEST = 2000
"""Characters that are shown of one text."""

LOSSLESS = 90.0
"""dB above which nothing that matters is lost; charts leave such a point out: it would flatten all others."""

_CLOSE = 3.0  # dB: a control that is not further away than this is named
_CONTROLS = {
    "linear code": "a linear code of as many values",
    "transform code": "the transform code of as many values, which spends them where the scan is busy",
    "random weights": "the same encoder with random weights",
    "shuffled features": "features of shuffled places",
    "mean image": "the mean image",
}
CONTROL_MEANINGS = {
    "linear code": "keeps as many values, the lowest frequencies of each block: has learned nothing",
    "transform code": "keeps as many values and spends them where the scan is busy: has learned nothing",
    "random weights": "the same encoder before any training",
    "shuffled features": "the right features at wrong places: what the decoder draws without the scan",
    "mean image": "the scan's mean value everywhere: what costs nothing",
    "identity": "the scan through all steps but the network: what reading and writing alone cost",
}
"""One line for each control of an atlas."""

_CODECS = ("JPEG 2000", "HTJ2K", "JPEG-LS")


def clean(text: str) -> str:
    """One line of printable characters: control and direction marks become U+FFFD, long texts are cut."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def brief(text: str, most: int = 36) -> str:
    """The text cleaned, and cut to what a chart has room for."""
    line = clean(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def number(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Write a number with a fixed count of decimals and a true minus sign: "−3.1", "∞", "–" for none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def decimals(values: Sequence[float]) -> int:
    """Decimals that show three figures of the smallest of the values that count, 0 to 4.

    Values below a thousandth of the largest do not count.
    """
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    counting = [s for s in sizes if s > 1e-3 * max(sizes)]
    return max(0, min(4, 2 - math.floor(math.log10(min(counting))))) if counting else 1


def significant(value: float | None, figures: int = 2) -> str:
    """Write a number with so many figures, never in powers of ten: "0.11", "2,400"."""
    if value is None or not math.isfinite(value) or value == 0:
        return number(value, 0)
    return number(value, max(0, figures - 1 - math.floor(math.log10(abs(value)))))


def amount(value: float, units: str) -> str:
    """A number with its unit: "3.2 HU"; three figures."""
    return f"{significant(value, 3 if abs(value) >= 1 else 2)} {units}".rstrip()


def times(values: Sequence[float]) -> str:
    """Sizes along the axes: "512 × 512 × 100"."""
    return " × ".join(f"{v:.3g}" if v < 1000 else f"{v:.0f}" for v in values)


def shown(scores: ScanScores) -> tuple[LayerScore, ...]:
    """The layers whose scores may be shown: those that stand beside controls."""
    return tuple(layer for layer in scores.layers if layer.controls)


def control(layer: LayerScore, name: str) -> Control | None:
    """The control of that name, if it was measured."""
    return next((c for c in layer.controls if c.name == name), None)


def part_of_controls(scores: ScanScores) -> str:
    """The slices that controls were measured on: "slices 41 to 56 of 100"; "" where it was the whole scan."""
    where = scores.facts.get("controls_on", "")
    return "" if where == "the whole scan" else where


def psnr(layer: LayerScore) -> str:
    """The layer's PSNR: "37.1 dB", or "identical"."""
    return "identical" if math.isinf(layer.psnr) else f"{number(layer.psnr)} dB"


def of_layer(layer: LayerScore, scores: ScanScores) -> list[str]:
    """Say in sentences what one layer keeps, what that is worth, and what it lost."""
    return [
        sentence
        for sentence in (
            _error(layer, scores.units),
            _against(layer),
            _rate(layer),
            _detail(layer, scores),
            _interval(layer, scores.units),
        )
        if sentence
    ]


def _error(layer: LayerScore, units: str) -> str:
    if math.isinf(layer.psnr):
        return ""
    where = ""
    if layer.body:
        where = f" in the body, {amount(layer.mae, units)} with the air around it"
    return f"Mean error {amount((layer.body or layer).mae, units)}{where}; PSNR {number(layer.psnr)} dB."


def _rate(layer: LayerScore) -> str:
    whole = math.isinf(layer.psnr)
    name, rate = next(
        ((n, layer.codecs[n]) for n in (*_CODECS, *layer.codecs) if layer.codecs.get(n) is not None),
        ("", None),
    )
    if rate is not None:
        text = f"{'Gives the scan back bit for bit, as' if whole else 'Keeps as much as'} {name}"
        text += f" {'does ' if whole else ''}at {significant(rate)} bits per voxel"
        if layer.bits_per_voxel:
            text += f" (its own features take {significant(layer.bits_per_voxel)})"
        return text + "."
    if whole:
        return "Gives the scan back bit for bit."
    return "Keeps an amount that no measured setting of the codecs matches." if layer.codecs else ""


def _detail(layer: LayerScore, scores: ScanScores) -> str:
    limit = layer.spectrum.limit
    if math.isinf(layer.psnr):
        return ""
    if limit is None:
        finest = 0.5 / min(scores.spacing)
        return (
            f"Detail survives at all frequencies of the grid (to {number(finest, 2)} lp/mm)."
            if layer.spectrum.frequencies
            else ""
        )
    if limit <= 0:
        return "Fine and coarse detail are gone alike."
    size = significant(0.5 / limit)
    return f"Fine detail is gone beyond {number(limit, 2)} lp/mm (structures thinner than {size} mm)."


def _against(layer: LayerScore) -> str:
    """Hold it against the linear code, and against each control that comes suspiciously close.

    Both figures of a difference are of the same voxels.
    """
    found, there = [], layer.there
    for name, words in _CONTROLS.items():
        other = control(layer, name)
        if other is None or there is None or not math.isfinite(other.psnr - there.psnr):
            continue
        code = name in ("linear code", "transform code")
        if code and other.psnr > LOSSLESS:
            continue
        gap = there.psnr - other.psnr
        if abs(gap) < 0.05:
            found.append(f"no better than {words}")
        elif code or gap < _CLOSE:
            found.append(f"{number(abs(gap))} dB {'better' if gap > 0 else 'worse'} than {words}")
    linear = control(layer, "linear code")
    whole = linear is not None and math.isfinite(layer.psnr) and linear.psnr > LOSSLESS >= layer.psnr
    more = "A linear code of as many values would lose nothing." if whole else ""
    if not found:
        return more
    listed = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    return f"That is {listed}. {more}".rstrip()


def _interval(layer: LayerScore, units: str) -> str:
    if layer.coverage is None or math.isinf(layer.psnr):
        return ""
    width = "" if layer.interval is None else f" (±\u00a0{amount(layer.interval, units)} on average)"
    return f"Its 90 % interval{width} holds {number(100 * layer.coverage, 0)} % of voxels."
