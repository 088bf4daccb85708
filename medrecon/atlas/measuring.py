"""What a network made of one scan, measured: scores beside their controls, and the maps that go with them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from medrecon.atlas.baseline import Baseline, baseline_of, in_box
from medrecon.atlas.drawn import measure_samples
from medrecon.atlas.facts import facts_of, warnings_of
from medrecon.atlas.network import AtlasNetwork
from medrecon.atlas.probe import CODE, PLAIN, RANDOM, SHUFFLED
from medrecon.evaluation.controls import dct_code
from medrecon.evaluation.fidelity import Fidelity, fidelity
from medrecon.evaluation.marked import Marked, overlay
from medrecon.evaluation.msssim import MultiScaleSSIM
from medrecon.evaluation.noise import noise_level
from medrecon.evaluation.relative_error import normalised_error
from medrecon.evaluation.scores import AtlasVolumes, Control, LayerScore, ScanScores
from medrecon.evaluation.uncertainty import (
    Interval,
    conformal_interval,
    invented,
    local_detail,
)
from medrecon.io.display import own_window
from medrecon.io.files.names import scan_label
from medrecon.io.scan import Scan
from medrecon.reconstructor import parse_layers

SOFT_TISSUE = (-160.0, 240.0)
"""HU shown black and white: level 40, width 400."""

_SEEN = 0.05  # share of the body that a file's own window must show as neither black nor white


def measure(
    engine: AtlasNetwork,
    scan: Scan,
    masks: Sequence[Marked] = (),
    spheres: Sequence[Marked] = (),
    *,
    step: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    keep_samples: bool = False,
) -> tuple[ScanScores, AtlasVolumes]:
    """Run one scan through a bundle and measure each result beside its controls.

    Args:
        engine: made for this scan.
        scan: the source.
        masks: parts of it that are looked at for themselves.
        spheres: the same, around points: a read-out of the features is not asked for them.
        step: called with the name of each stage as it begins.
        progress: called with (tiles done, tiles in all) while the network runs.
        keep_samples: give the first samples, their mean and their standard deviation as volumes too.

    Raises:
        ScanError: the scan turns out to be unreadable.
        ModelError: the network cannot take this scan.
        UsageError: the mask does not fit.
    """
    say = step or (lambda _: None)
    say("network")
    marked = (*masks, *spheres)
    raw = engine.run(scan, progress, overlay(masks, scan.shape) if masks else None)
    start = time.perf_counter()
    say("codecs")
    fixed = baseline_of(scan, raw, marked)
    drawn = overlay(marked, scan.shape) if marked else None
    volumes = AtlasVolumes(
        raw.source, np.asarray(scan.affine, dtype=np.float64), mask=drawn, features=raw.pictures
    )
    layers: list[LayerScore] = []
    tied: dict[str, float] = {}
    for result in engine.results:
        say(result)
        score, tied[result] = _layer(engine, fixed, result, volumes, keep_samples)
        layers.append(score)
    seconds = {**raw.seconds, "evaluation": time.perf_counter() - start}
    scores = ScanScores(
        key=scan.key,
        label=scan_label(scan),
        modality=scan.modality,
        units=scan.units,
        shape=scan.shape,
        spacing=scan.spacing,
        window=_window(fixed),
        noise=noise_level(raw.source, fixed.body),
        layers=tuple(layers),
        codec_curves=fixed.codecs.curves,
        facts=facts_of(engine, fixed, seconds),
        warnings=warnings_of(fixed, layers, tied),
        findings=tuple(meter.source for meter in fixed.findings),
    )
    return scores, volumes


def _layer(
    engine: AtlasNetwork,
    fixed: Baseline,
    result: str,
    volumes: AtlasVolumes,
    keep_samples: bool,
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
    drawn = None
    if engine.sampling is not None and raw.image is not None and result in engine.sampling.saver.results:
        drawn = measure_samples(engine.sampling, raw.image, result, fixed, volumes, keep=keep_samples)
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
        there=in_box(result, fixed.scan, raw.box, raw.box.variants[result, PLAIN]),
        controls=_controls(fixed, result, rate, len(infos[0].stride)),
        codecs=fixed.codecs.equivalents(recon),
        consistency=raw.box.consistency[result],
        coverage=None if math.isnan(interval.coverage) else interval.coverage,
        interval=None if math.isnan(interval.mean) else interval.mean,
        seconds=raw.seconds["volumes"] / len(engine.results) + time.perf_counter() - start,
        told=raw.told.get(result),
        output=engine.own_output.kept.get(result) if engine.own_output else None,
        findings={meter.marked.name: meter.of(recon) for meter in fixed.findings},
        samples=drawn,
    )
    return score, interval.tied


def _fidelity(fixed: Baseline, recon: np.ndarray) -> tuple[Fidelity, float]:
    """Fidelity over the scan's range, and the MS-SSIM that falls off on the way."""
    scales: list[MultiScaleSSIM] = []

    def similarity(shape: tuple[int, int, int]) -> MultiScaleSSIM:
        scales.append(MultiScaleSSIM(shape))
        return scales[0]

    units = fixed.scan.units
    kept = fidelity(fixed.raw.source, recon, units=units, data_range=fixed.range, similarity=similarity)
    return kept, scales[0].value


def _window(fixed: Baseline) -> tuple[float, float]:
    """The file's own window where it shows the body; else soft tissue for HU, the robust range otherwise."""
    own = own_window(fixed.scan)
    if own is not None:
        values = fixed.raw.source[fixed.body]
        if ((values > own[0]) & (values < own[1])).mean() >= _SEEN:
            return own
    return SOFT_TISSUE if fixed.scan.units == "HU" else fixed.range


def _nothing_lost(fixed: Baseline) -> Fidelity:
    size = fixed.raw.source.size
    return Fidelity(0.0, 0.0, 0.0, 0.0, math.inf, 1.0, 1.0, fixed.range, fixed.scan.units, size)


def _controls(fixed: Baseline, result: str, rate: float, dims: int) -> tuple[Control, ...]:
    scan, box = fixed.scan, fixed.raw.box
    seen = np.maximum(box.source, box.data_range[0]) if scan.units == "HU" else box.source
    code = dct_code(seen, min(1.0, rate), (16, 16, 16 if dims == 3 else 1))
    made = [fixed.mean, in_box(SHUFFLED, scan, box, box.variants[result, SHUFFLED])]
    if (result, RANDOM) in box.variants:
        made.append(in_box(RANDOM, scan, box, box.variants[result, RANDOM]))
    if (result, CODE) in box.variants:
        made.append(in_box(CODE, scan, box, box.variants[result, CODE]))
    return (*made, in_box("linear code", scan, box, code), fixed.identity)
