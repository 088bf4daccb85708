"""What must be said of an atlas: how its figures were made, and what is to be taken with care."""

from __future__ import annotations

from collections.abc import Mapping

from medrecon.atlas.baseline import Baseline, box_psnr
from medrecon.atlas.network import AtlasNetwork
from medrecon.atlas.probe import QUANTISED
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
    depth = fixed.scan.shape[2]
    where = "the whole scan" if planes is None else f"slices {planes[0] + 1} to {planes[1] + 1} of {depth}"
    coded = {result: box_psnr(fixed, result, QUANTISED) for result in results}
    low, high = fixed.range
    units = fixed.scan.units or "source units"
    return {
        **engine.facts,
        "psnr_range": f"{low:g} to {high:g} {units}",
        "controls_on": where,
        "bits": f"{_code_words(engine)}, on {where}",
        "psnr_at_8_bits": ", ".join(f"{name} {_db(value)}" for name, value in coded.items()),
        "noise": "standard deviation from voxel to voxel in the body (Immerkaer 1996, by the median)",
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
    found = list(dict.fromkeys([*fixed.scan.notes, *fixed.raw.notes]))
    for layer in layers:
        coded = box_psnr(fixed, layer.layer, QUANTISED)
        if layer.there is not None and layer.there.psnr - coded > _CODE_LOSS:
            found.append(
                f"{layer.layer}: its bits per voxel are too few for its PSNR. They count features that are "
                f"rounded to 8 bits; with those it is {coded:.1f} dB, not {layer.there.psnr:.1f} dB"
            )
        exact = layer.rmse == 0
        if layer.coverage is not None and not exact and abs(layer.coverage - LEVEL) > _COVERAGE_OFF:
            sense = "too narrow: trust it less" if layer.coverage < LEVEL else "wider than it need be"
            said = f"{layer.layer}: the {LEVEL:.0%} interval held {layer.coverage:.1%} of voxels: {sense}"
            if layer.coverage - tied[layer.layer] < LEVEL < layer.coverage:
                said += f" (values are whole numbers, and {tied[layer.layer]:.1%} lie exactly at its ends)"
            found.append(said)
        if BODY not in layer.regions:
            found.append(f"{layer.layer}: no body was found, so there is no figure without the air around it")
    return tuple(dict.fromkeys(found))


def _db(value: float) -> str:
    return "identical" if value > 120 else f"{value:.2f} dB"
