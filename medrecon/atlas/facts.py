"""What must be said of an atlas: how its figures were made, and what is to be taken with care."""

from __future__ import annotations

from collections.abc import Mapping

from medrecon.atlas.baseline import Baseline, box_psnr
from medrecon.atlas.network import AtlasNetwork
from medrecon.atlas.probe import PLAIN, QUANTISED
from medrecon.evaluation.codecs import curve_words
from medrecon.evaluation.regions import BODY, region_words
from medrecon.evaluation.scores import LayerScore, Told
from medrecon.evaluation.uncertainty import LEVEL
from medrecon.reconstructor import parse_layers

_COVERAGE_OFF = 0.05
_CODE_LOSS = 0.5  # dB that 8 bits may cost before it must be said


def facts_of(engine: AtlasNetwork, fixed: Baseline, seconds: dict[str, float]) -> dict[str, str]:
    """Model, weights, ranges, and how each kind of figure was made."""
    box, results = fixed.raw.box, engine.results
    planes = box.planes
    where = "the whole scan" if planes is None else f"slices {planes[0] + 1} to {planes[1] + 1}"
    here = {result: box_psnr(fixed, result, PLAIN) for result in results}
    coded = {result: box_psnr(fixed, result, QUANTISED) for result in results}
    low, high = fixed.range
    units = fixed.scan.units or "source units"
    return {
        **engine.facts,
        "psnr_range": f"{low:g} to {high:g} {units}",
        "controls_on": f"{where}; identity: the whole scan",
        "psnr_there": ", ".join(f"{name} {_db(value)}" for name, value in here.items()),
        "bits": f"{_code_words(engine)}, on {where}",
        "psnr_at_8_bits": ", ".join(f"{name} {_db(value)}" for name, value in coded.items()),
        **curve_words(fixed.codecs),
        "uncertainty": f"half width of a {LEVEL:.0%} interval (split conformal, by local detail and "
        "intensity of the reconstruction); calibrated on a random half of this scan's blocks, coverage "
        "measured on the body voxels of the other half",
        "invented": "error beyond the interval, where the reconstruction has more detail than the source",
        **_told_words(fixed.raw.told),
        **{f"region {name}": words for name, words in region_words(fixed.scan.units).items()},
        "body_share": f"{fixed.body.mean():.3f}",
        **{f"seconds_{name}": f"{value:.1f}" for name, value in seconds.items()},
    }


def _told_words(told_by: Mapping[str, Told]) -> dict[str, str]:
    if not told_by:
        return {}
    first = next(iter(told_by.values()))
    shown = "; ".join(
        f"{result} {told.accuracy:.3f} (DCT {told.dct:.3f}"
        + ("" if told.random is None else f", random weights {told.random:.3f}")
        + f", shuffled labels {told.shuffled:.3f})"
        for result, told in told_by.items()
    )
    return {
        "labels_told": "balanced accuracy of a ridge read-out of single positions, on blocks that it was "
        f"not fitted to; {first.labels} labels (the surroundings are one), {first.places} places, "
        f"chance {first.chance:.3f}: {shown}"
    }


def _code_words(engine: AtlasNetwork) -> str:
    infos = [engine.infos[name] for result in engine.results for name in parse_layers(result)]
    found = []
    if not all(info.sparse for info in infos):
        found.append("entropy of the features at 8 bits, each channel by its own histogram")
    if any(info.sparse for info in infos):
        found.append(
            "layers that keep other values at each position: entropy of which they keep, and of the values "
            "in steps of one width"
        )
    return "; ".join(found)


def warnings_of(fixed: Baseline, layers: list[LayerScore], tied: dict[str, float]) -> tuple[str, ...]:
    """One line for each thing to be careful with.

    Args:
        fixed: what all layers share.
        layers: the figures.
        tied: result -> share of voxels that lie exactly at the ends of its interval.
    """
    found = [*fixed.scan.notes, *fixed.raw.notes]
    for layer in layers:
        here = box_psnr(fixed, layer.layer, PLAIN)
        coded = box_psnr(fixed, layer.layer, QUANTISED)
        if here - coded > _CODE_LOSS:
            found.append(
                f"{layer.layer}: rounded as its bits per voxel are counted its PSNR falls to {coded:.1f} dB: "
                "they are too few for the PSNR stated"
            )
        exact = layer.rmse == 0
        if layer.coverage is not None and not exact and abs(layer.coverage - LEVEL) > _COVERAGE_OFF:
            said = f"{layer.layer}: the {LEVEL:.0%} interval held {layer.coverage:.1%} on held-out blocks"
            if layer.coverage - tied[layer.layer] < LEVEL < layer.coverage:
                said += f"; values are whole numbers, and {tied[layer.layer]:.1%} lie exactly at its ends"
            found.append(said)
        if BODY not in layer.regions:
            found.append(f"{layer.layer}: no body was found")
    return tuple(dict.fromkeys(found))


def _db(value: float) -> str:
    return "identical" if value > 120 else f"{value:.2f} dB"
