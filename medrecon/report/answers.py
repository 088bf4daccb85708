"""The five questions that the first screen answers: what, how much, where, down to which layer, how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medrecon.evaluation.regions import TISSUES
from medrecon.evaluation.scores import BODY, LayerScore, RegionError, ScanScores
from medrecon.report.words import amount, clean, control, number, psnr, shown, significant

_APART = 1.5  # times: a tissue that loses so much more than another is named
_BARELY = 1.0  # dB above a control that knows nothing of the scan


def answers(scores: ScanScores) -> list[tuple[str, str]]:
    """Question and answer, for the top of the page; none where no layer stands beside controls."""
    layers = shown(scores)
    if not layers:
        return []
    found = [
        ("How much is lost?", _how_much(layers, scores)),
        ("Where?", _where(layers, scores)),
        ("Down to which layer is it of use?", _down_to(layers, scores)),
        ("Can I trust it?", _trust(layers, scores)),
    ]
    return [(question, answer) for question, answer in found if answer]


def lost(scores: ScanScores, name: str) -> str:
    """The mean error of a layer in the body, short: "±22 HU"; "" where no score is shown."""
    layer = next((layer for layer in shown(scores) if layer.layer == name), None)
    if layer is None:
        return ""
    if layer.rmse == 0:
        return "identical"
    if not scores.units and layer.data_range > 0:
        return f"±{significant(100 * _error(layer) / layer.data_range)} %"
    return f"±{significant(_error(layer))} {scores.units}".rstrip()


def layer_line(scores: ScanScores, name: str) -> str:
    """What one layer lost, for the line beneath the scrubber."""
    layer = next((layer for layer in shown(scores) if layer.layer == name), None)
    if layer is None:
        return f"{clean(name)}: no score is shown, because it was not measured beside controls."
    if layer.rmse == 0:
        return f"{clean(name)} gives the scan back bit for bit."
    where = "in the body" if layer.body else "over the scan"
    text = f"{clean(name)}: {_size(_error(layer), layer, scores)} off on average {where}"
    if scores.noise > 0:
        spread = amount(_spread(layer), scores.units)
        text += f" (root mean square {spread}, {_times_noise(_spread(layer), scores.noise)})"
    text += f". PSNR of the scan {psnr(layer)}."
    limit = layer.spectrum.limit
    if limit:
        text += f" Structures thinner than {significant(0.5 / limit)} mm are gone."
    return text


def _size(error: float, layer: LayerScore, scores: ScanScores) -> str:
    """An error with its unit; where units are arbitrary, as a share of the scan's range, too."""
    said = amount(error, scores.units)
    if scores.units or not layer.data_range > 0:
        return said
    return f"{said} ({significant(100 * error / layer.data_range)} % of the scan's range)"


def _error(layer: LayerScore) -> float:
    return layer.body.mae if layer.body else layer.mae


def _spread(layer: LayerScore) -> float:
    return layer.body.rmse if layer.body else layer.rmse


def _times_noise(error: float, noise: float) -> str:
    ratio = error / noise
    return "within the scan's own noise" if ratio <= 1 else f"{significant(ratio)} times the scan's own noise"


def _how_much(layers: Sequence[LayerScore], scores: ScanScores) -> str:
    where = "in the body" if all(layer.body for layer in layers) else "over the scan"
    parts = [
        "nothing" if layer.rmse == 0 else _size(_error(layer), layer, scores)
        for layer in (layers[0], layers[-1])
    ]
    if len(layers) == 1:
        return f"{clean(layers[0].layer)}: {parts[0]} on average {where}."
    text = f"On average {where}: {parts[0]} at {clean(layers[0].layer)}"
    return f"{text}, {parts[1]} at {clean(layers[-1].layer)}."


def _where(layers: Sequence[LayerScore], scores: ScanScores) -> str:
    """The regions of the worst layer that lose most and least."""
    worst = max(layers, key=_error)
    if worst.rmse == 0:
        return "Nowhere: nothing is lost."
    parts = {name: region for name, region in worst.regions.items() if name in TISSUES}
    if len(parts) < 2:
        body = worst.body
        if body is None or body.mae < worst.mae:
            return "All over the scan; see the map of errors."
        over = _size(worst.mae, worst, scores)
        return f"In the body, not in the air around it: over the whole scan it is {over}."
    most, least = (pick(parts, key=lambda name: parts[name].mae) for pick in (max, min))
    if parts[most].mae < _APART * parts[least].mae:
        return f"Much the same in all tissues at {clean(worst.layer)}."
    said = ", ".join(_region(name, parts[name], scores.units) for name in (most, least))
    marked = [name for name in worst.regions if name not in TISSUES and name != BODY]
    inside = ", ".join(_region(name, worst.regions[name], scores.units) for name in marked[:3])
    text = f"At {clean(worst.layer)} most in {said.replace(', ', ', least in ', 1)}"
    return f"{text}; in the mask: {inside}." if marked else f"{text}."


def _region(name: str, region: RegionError, units: str) -> str:
    return f"{clean(name)} ({amount(region.mae, units)})"


def _down_to(layers: Sequence[LayerScore], scores: ScanScores) -> str:
    """Two limits that need no taste: the scan's own noise, and a control that knows nothing of the scan."""
    said = []
    if scores.noise > 0:
        noise = amount(scores.noise, scores.units)
        within = [layer for layer in layers if _spread(layer) <= scores.noise]
        if len(within) == len(layers):
            said.append(f"All layers: errors stay within the scan's own noise ({noise}).")
        elif within:
            said.append(
                f"Down to {clean(within[-1].layer)} errors stay within the scan's own noise ({noise})."
            )
        else:
            said.append(f"No layer stays within the scan's own noise ({noise}).")
    gone = [(layer.layer, 0.5 / layer.spectrum.limit) for layer in layers if layer.spectrum.limit]
    if gone:
        ends = dict((gone[0], gone[-1])).items()
        sizes = [f"thinner than {significant(size)} mm from {clean(name)} on" for name, size in ends]
        said.append(f"Gone are structures {', '.join(sizes)}.")
    if empty := next((layer for layer in layers if _knows_nothing(layer)), None):
        said.append(f"From {clean(empty.layer)} on it is hardly better than a flat image.")
    return " ".join(said)


def _knows_nothing(layer: LayerScore) -> bool:
    flat = control(layer, "mean image")
    there = layer.there
    return flat is not None and there is not None and there.psnr - flat.psnr < _BARELY


def _trust(layers: Sequence[LayerScore], scores: ScanScores) -> str:
    same = control(layers[0], "identity")
    said = []
    if same is not None:
        said.append(
            "Reading and writing alone change nothing."
            if math.isinf(same.psnr)
            else f"Reading and writing alone cost something (PSNR {number(same.psnr)} dB)."
        )
    held = [layer.coverage for layer in layers if layer.coverage is not None and layer.rmse]
    if held:
        least, most = (number(100 * pick(held), 0) for pick in (min, max))
        share = least if least == most else f"{least} to {most}"
        said.append(f"The 90 % intervals held {share} % of voxels that they were not fitted to.")
    return " ".join(said)
