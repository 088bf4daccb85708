"""Figures of many scans: intervals by patient, and scans that stand out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 7
_FEWEST = 5  # scans from which on one can stand out
_FAR = 3.5  # robust z-score of an outlier: Iglewicz & Hoaglin 1993


@dataclass(frozen=True)
class Summary:
    """The mean of a measure with its interval.

    Attributes:
        scans: finite values.
        patients: how many they come from; None where the files of some do not say.
        mean: over patients, of each patient's mean; a scan of somebody unknown counts as a patient.
        low: lower end of the 95 % bootstrap interval; NaN with fewer than two patients.
        high: its upper end.
        median: over scans.
        smallest: over scans.
        largest: over scans.
    """

    scans: int
    patients: int | None
    mean: float
    low: float
    high: float
    median: float
    smallest: float
    largest: float


def summarise(values: Sequence[float | None], patients: Sequence[Hashable | None]) -> Summary:
    """Mean and 95 % percentile bootstrap interval over patients (Efron & Tibshirani 1993, chapter 13).

    A patient's scans are averaged first, then patients are drawn with replacement 2,000 times: scans of one
    patient are alike and must not count as independent. With few patients (under ten or so) the interval is
    too narrow. Values that are None, infinite or NaN are left out.

    Args:
        values: one for each scan.
        patients: the group of each; None where it is not known, which is a group of its own.

    Raises:
        ValueError: the two differ in length.
    """
    groups: dict[tuple[str, Hashable], list[float]] = {}
    for place, (value, patient) in enumerate(zip(values, patients, strict=True)):
        if value is not None and math.isfinite(value):
            group = ("scan", place) if patient is None else ("patient", patient)
            groups.setdefault(group, []).append(float(value))
    each = [value for group in groups.values() for value in group]
    if not each:
        return Summary(0, None, *[math.nan] * 6)
    means = np.array([np.mean(group) for group in groups.values()])
    low = high = math.nan
    if len(means) > 1:
        drawn = bootstrap(
            (means,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(_SEED),
        )
        low, high = map(float, drawn.confidence_interval)
    return Summary(
        scans=len(each),
        patients=len(means) if all(kind == "patient" for kind, _ in groups) else None,
        mean=float(means.mean()),
        low=low,
        high=high,
        median=float(np.median(each)),
        smallest=min(each),
        largest=max(each),
    )


def outliers(values: Sequence[float | None]) -> list[int]:
    """Places of the values that stand out: more than 3.5 robust standard deviations from the median.

    The robust standard deviation is 1.4826 times the median absolute deviation (Iglewicz & Hoaglin, "How to
    detect and handle outliers", 1993). None with fewer than five finite values, or where half are equal.
    """
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if len(finite) < _FEWEST:
        return []
    median = float(np.median(finite))
    scale = 1.4826 * float(np.median(np.abs(np.asarray(finite) - median)))
    if scale == 0:
        return []
    return [
        place
        for place, value in enumerate(values)
        if value is not None and math.isfinite(value) and abs(value - median) / scale > _FAR
    ]
