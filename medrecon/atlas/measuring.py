"""What a network made of one scan, measured: scores beside their controls, and the maps that go with them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from medrecon.atlas.network import AtlasNetwork, MiddleSlices, ScanResults
from medrecon.atlas.probe import CODE, PLAIN, QUANTISED, RANDOM, SHUFFLED
from medrecon.evaluation.codecs import CodecMeter, curve_words
from medrecon.evaluation.controls import dct_code
from medrecon.evaluation.fidelity import Fidelity, fidelity
from medrecon.evaluation.msssim import MultiScaleSSIM
from medrecon.evaluation.regions import BODY, Regions, body_mask, region_words
from medrecon.evaluation.relative_error import normalised_error
from medrecon.evaluation.scores import AtlasVolumes, Control, LayerScore, ScanScores, Told
from medrecon.evaluation.spectrum import SpectrumMeter
from medrecon.evaluation.uncertainty import (
    LEVEL,
    Interval,
    calibration_blocks,
    conformal_interval,
    invented,
    local_detail,
)
from medrecon.intensity_range import intensity_range
from medrecon.io.files.names import scan_label
from medrecon.io.scan import Scan
from medrecon.reconstructor import parse_layers

SOFT_TISSUE = (-160.0, 240.0)
"""HU shown black and white: level 40, width 400."""

_COVERAGE_OFF = 0.05
_CODE_LOSS = 0.5  # dB that 8 bits may cost before it must be said


@dataclass
class _Fixed:
    """What is measured once for a scan."""

    scan: Scan
    raw: ScanResults
    range: tuple[float, float]
    body: np.ndarray
    regions: Regions
    spectrum: SpectrumMeter
    codecs: CodecMeter
    calibrate: np.ndarray
    detail: np.ndarray
    mean: Control
    identity: Control
    share: float


def measure(
    engine: AtlasNetwork,
    scan: Scan,
    mask: np.ndarray | None = None,
    step: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ScanScores, AtlasVolumes]:
    """Run one scan through a bundle and measure each result beside its controls.

    Args:
        engine: made for this scan.
        scan: the source.
        mask: labels on the source's grid, (X, Y, Z) whole numbers.
        step: called with the name of each stage as it begins.
        progress: called with (tiles done, tiles in all) while the network runs.

    Raises:
        ScanError: the scan turns out to be unreadable.
        ModelError: the network cannot take this scan.
        UsageError: the mask does not fit.
    """
    say = step or (lambda _: None)
    say("network")
    raw = engine.run(scan, progress, mask)
    start = time.perf_counter()
    say("codecs")
    fixed = _fix(engine, scan, raw, mask)
    volumes = AtlasVolumes(raw.source, np.asarray(scan.affine, dtype=np.float64))
    layers: list[LayerScore] = []
    tied: dict[str, float] = {}
    for result in engine.results:
        say(result)
        score, tied[result] = _layer(engine, fixed, result, volumes)
        layers.append(score)
    seconds = {**raw.seconds, "evaluation": time.perf_counter() - start}
    low, high = fixed.range
    scores = ScanScores(
        key=scan.key,
        label=scan_label(scan),
        modality=scan.modality,
        units=scan.units,
        shape=scan.shape,
        spacing=scan.spacing,
        window=SOFT_TISSUE if scan.units == "HU" else (low, high),
        layers=tuple(layers),
        codec_curves=fixed.codecs.curves,
        facts=_facts(engine, fixed, seconds),
        warnings=_warnings(fixed, layers, tied),
    )
    return scores, volumes


def _fix(engine: AtlasNetwork, scan: Scan, raw: ScanResults, mask: np.ndarray | None) -> _Fixed:
    low, high = intensity_range(raw.source, scan.units)
    body = body_mask(raw.source, scan.units)
    box = raw.box
    mean = np.broadcast_to(np.float32(box.source.mean(dtype=np.float64)), box.source.shape)
    same = np.array_equal(raw.identity, raw.source)
    identity = (
        Control("identity", math.inf, 1.0, 0.0)
        if same
        else _control("identity", fidelity(raw.source, raw.identity, units=scan.units))
    )
    return _Fixed(
        scan=scan,
        raw=raw,
        range=(low, high),
        body=body,
        regions=Regions(raw.source, scan.units, body, mask),
        spectrum=SpectrumMeter(raw.source, scan.spacing, body),
        codecs=CodecMeter(raw.source, scan.units, (low, high)),
        calibrate=calibration_blocks(scan.shape),
        detail=local_detail(raw.source),
        mean=_in_box("mean image", scan, box, mean),
        identity=identity,
        share=raw.network_voxels / raw.source.size,
    )


def _layer(
    engine: AtlasNetwork, fixed: _Fixed, result: str, volumes: AtlasVolumes
) -> tuple[LayerScore, float]:
    """The figures of a result, and the share of voxels that lie exactly at the ends of its interval."""
    start = time.perf_counter()
    raw = fixed.raw
    source, recon = raw.source, raw.results[result]
    infos = [engine.infos[name] for name in parse_layers(result)]
    rate = sum(info.values_per_voxel for info in infos)
    if np.array_equal(source, recon):
        kept, ms_ssim = _nothing_lost(fixed), 1.0
        interval = Interval(np.zeros(source.shape, np.float32), 1.0, 0.0)
        made_up = np.zeros(source.shape, np.float32)
    else:
        kept, ms_ssim = _fidelity(fixed, recon)
        detail = local_detail(recon)
        interval = conformal_interval(source, recon, detail, fixed.body, fixed.calibrate)
        made_up = invented(source, recon, interval.half_width, fixed.detail, detail)
    volumes.reconstructions[result] = recon
    volumes.uncertainty[result] = interval.half_width
    volumes.invented[result] = made_up
    stride = infos[0].stride if len(infos) == 1 else None
    score = LayerScore(
        layer=result,
        channels=infos[0].channels if len(infos) == 1 else None,
        stride=stride,
        values_per_voxel=rate * fixed.share,
        bits_per_voxel=raw.box.bits_per_voxel[result] * fixed.share,
        mae=kept.mae,
        rmse=kept.rmse,
        bias=kept.bias,
        psnr=kept.psnr,
        ssim=kept.ssim,
        ms_ssim=ms_ssim,
        normalised_error=normalised_error(source, recon),
        data_range=fixed.range[1] - fixed.range[0],
        regions=fixed.regions.errors(source, recon),
        spectrum=fixed.spectrum.error(recon),
        controls=_controls(fixed, result, rate, len(infos[0].stride)),
        codecs=fixed.codecs.equivalents(recon),
        consistency=raw.box.consistency[result],
        coverage=None if math.isnan(interval.coverage) else interval.coverage,
        interval=None if math.isnan(interval.mean) else interval.mean,
        seconds=raw.seconds["volumes"] / len(engine.results) + time.perf_counter() - start,
        told=raw.told.get(result),
    )
    return score, interval.tied


def _fidelity(fixed: _Fixed, recon: np.ndarray) -> tuple[Fidelity, float]:
    """Fidelity over the scan's range, and the MS-SSIM that falls off on the way."""
    scales: list[MultiScaleSSIM] = []

    def similarity(shape: tuple[int, int, int]) -> MultiScaleSSIM:
        scales.append(MultiScaleSSIM(shape))
        return scales[0]

    units = fixed.scan.units
    kept = fidelity(fixed.raw.source, recon, units=units, data_range=fixed.range, similarity=similarity)
    return kept, scales[0].value


def _nothing_lost(fixed: _Fixed) -> Fidelity:
    size = fixed.raw.source.size
    return Fidelity(0.0, 0.0, 0.0, 0.0, math.inf, 1.0, 1.0, fixed.range, fixed.scan.units, size)


def _controls(fixed: _Fixed, result: str, rate: float, dims: int) -> tuple[Control, ...]:
    scan, box = fixed.scan, fixed.raw.box
    seen = np.maximum(box.source, box.data_range[0]) if scan.units == "HU" else box.source
    code = dct_code(seen, min(1.0, rate), (16, 16, 16 if dims == 3 else 1))
    made = [fixed.mean, _in_box(SHUFFLED, scan, box, box.variants[result, SHUFFLED])]
    if (result, RANDOM) in box.variants:
        made.append(_in_box(RANDOM, scan, box, box.variants[result, RANDOM]))
    if (result, CODE) in box.variants:
        made.append(_in_box(CODE, scan, box, box.variants[result, CODE]))
    return (*made, _in_box("linear code", scan, box, code), fixed.identity)


def _in_box(name: str, scan: Scan, box: MiddleSlices, values: np.ndarray) -> Control:
    found = fidelity(box.source, values, units=scan.units, data_range=box.data_range)
    return _control(name, found)


def _control(name: str, found: Fidelity) -> Control:
    return Control(name, found.psnr, found.ssim, found.mae)


def _box_psnr(fixed: _Fixed, result: str, kind: str) -> float:
    """PSNR on the slices of the controls, as `fidelity` has it."""
    box = fixed.raw.box
    low, high = box.data_range
    error = box.variants[result, kind] - box.source
    if fixed.scan.units == "HU":
        error = np.clip(box.variants[result, kind], low, high) - np.clip(box.source, low, high)
    squared = float(np.square(error).mean(dtype=np.float64))
    return 10 * math.log10((high - low) ** 2 / squared) if squared else math.inf


def _facts(engine: AtlasNetwork, fixed: _Fixed, seconds: dict[str, float]) -> dict[str, str]:
    box, results = fixed.raw.box, engine.results
    planes = box.planes
    where = "the whole scan" if planes is None else f"slices {planes[0] + 1} to {planes[1] + 1}"
    here = {result: _box_psnr(fixed, result, PLAIN) for result in results}
    coded = {result: _box_psnr(fixed, result, QUANTISED) for result in results}
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


def _warnings(fixed: _Fixed, layers: list[LayerScore], tied: dict[str, float]) -> tuple[str, ...]:
    found = [*fixed.scan.notes, *fixed.raw.notes]
    for layer in layers:
        here = _box_psnr(fixed, layer.layer, PLAIN)
        coded = _box_psnr(fixed, layer.layer, QUANTISED)
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
