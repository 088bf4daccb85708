"""Samples in an atlas: the intervals that they give, and what all of them agree on."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor

from medrecon.atlas.baseline import Baseline
from medrecon.contract import Progress
from medrecon.evaluation.sample_intervals import agreement, sample_intervals
from medrecon.evaluation.sample_scores import SamplePictures, SampleScore, SampleVolumes
from medrecon.evaluation.scores import AtlasVolumes
from medrecon.evaluation.uncertainty import local_detail
from medrecon.inference.moments import RunningMoments
from medrecon.inference.samples import SaveSamplesd
from medrecon.report.tiles import view_in

_SHOWN = 2  # samples that stand in the page


def measure_samples(
    sampling: SaveSamplesd,
    image: MetaTensor,
    result: str,
    fixed: Baseline,
    volumes: AtlasVolumes,
    progress: Progress | None = None,
    *,
    keep: bool = False,
) -> SampleScore:
    """Draw samples of a result, one held at a time, and measure them; pictures go into `volumes`.

    Args:
        sampling: draws them.
        image: the scan as the network takes it.
        result: that they are drawn from.
        fixed: what is measured once for the scan.
        volumes: with the source and the reconstruction.
        progress: told (parts done, parts in all).
        keep: put the first samples, their mean and their standard deviation into `volumes` as they are.
    """
    view = view_in(volumes, fixed.scan.units, fixed.scan.spacing)
    moments, variance = RunningMoments(), np.zeros(fixed.scan.shape, np.float32)
    shown: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    base, decoder = sampling.base(image, result)
    distances: list[float] = []
    for sample in sampling.draw(image, base, result, progress):
        moments.add(sample.volume)
        variance += np.square(local_detail(sample.volume))
        if len(shown) < _SHOWN:
            shown.append(view.cut(sample.volume, "axial").astype(np.float32))
            if keep:
                kept.append(sample.volume)
        if sample.feature_distance is not None:
            distances.append(sample.feature_distance)
    deviation = moments.deviation()
    if keep:
        volumes.drawn[result] = SampleVolumes(tuple(kept), moments.mean, deviation)
    variance /= moments.count
    common = agreement(local_detail(moments.mean), variance, moments.count)
    weight = variance[fixed.body]
    shared = float((common[fixed.body] * weight).sum() / weight.sum()) if weight.sum() else float("nan")
    volumes.samples[result] = SamplePictures(
        tuple(shown),
        *(view.cut(each, "axial").astype(np.float32) for each in (moments.mean, deviation, common)),
    )
    error = np.subtract(fixed.raw.source, moments.mean, dtype=np.float32)[fixed.body]
    recon = fixed.raw.results[result]
    return SampleScore(
        count=moments.count,
        seed=sampling.seed,
        intervals=sample_intervals(
            fixed.raw.source, recon, moments.mean, deviation, moments.count, fixed.body, fixed.calibrate
        ),
        shared=shared,
        rmse_of_mean=float(np.sqrt(np.square(error).mean(dtype=np.float64))) if error.size else float("nan"),
        feature_distance=float(np.mean(distances)) if distances else None,
        decoder_distance=decoder,
    )
