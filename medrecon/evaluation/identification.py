"""Who is it? How often the right patient comes first among many, with intervals, and what chance gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

_Z = 1.959964  # of a 95 % interval
_COMPARISONS = ("whitened", "correlation")


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval, which is NaN where there is nothing to say."""

    value: float
    low: float
    high: float


def wilson(share: float, count: float) -> Share:
    """A share of `count` independent cases with its score interval (Wilson 1927); never of no width."""
    if not count:
        return Share(math.nan, math.nan, math.nan)
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))


def similarity(probes: np.ndarray, gallery: np.ndarray, compare: str = "whitened") -> np.ndarray:
    """How alike probes and gallery are: the cosine of what sets them apart from the gallery's mean.

    "correlation" takes the differences as they are. "whitened" first gives each principal direction of the
    gallery the same weight, up to a ridge of the eigenvalues' geometric mean: what many scans share, such as
    a contrast, then counts no more than what few do.

    Args:
        probes: (n, D).
        gallery: (m, D).
        compare: "whitened" or "correlation".

    Returns:
        (n, m), float64.

    Raises:
        ValueError: another way of comparing.
    """
    if compare not in _COMPARISONS:
        raise ValueError(f"'{compare}' is none of {', '.join(_COMPARISONS)}")
    mean = gallery.mean(0, dtype=np.float64).astype(np.float32)
    known, seen = gallery - mean, probes - mean
    cross = np.asarray(seen @ known.T, np.float64)
    if compare == "correlation":
        sizes = np.linalg.norm(seen, axis=1)[:, None] * np.linalg.norm(known, axis=1)
        return np.asarray(cross / np.maximum(sizes, 1e-12))
    values, vectors = np.linalg.eigh(np.asarray(known @ known.T, np.float64))
    kept = values > 1e-9 * max(values[-1], 1e-12)
    values, vectors = values[kept], vectors[:, kept]
    if not len(values):
        return np.zeros_like(cross)
    # coordinates along the directions that the gallery spans; elsewhere its scans do not differ
    weights = 1 / np.sqrt(values + np.exp(np.log(values).mean()))
    ours = vectors * np.sqrt(values) * weights
    theirs = cross @ vectors / np.sqrt(values) * weights
    sizes = np.linalg.norm(theirs, axis=1)[:, None] * np.linalg.norm(ours, axis=1)
    return np.asarray(theirs @ ours.T / np.maximum(sizes, 1e-12))


@dataclass(frozen=True)
class Question:
    """What is asked of a gallery: each probe is of somebody who is in it with another scan.

    Attributes:
        patients: (m,) whose each scan of the gallery is, counted from 0.
        source: (n,) the scan of the gallery that each probe is, or was made of.
        itself: the right answer is that scan; else one of the other scans of the same patient.
        answer: (N,) the patient whose place is looked at for a probe of each patient; None: the right one.
    """

    patients: np.ndarray
    source: np.ndarray
    itself: bool
    answer: np.ndarray | None = None

    @property
    def asked(self) -> np.ndarray:
        """The probes that have a right answer, as places."""
        if self.itself:
            return np.arange(len(self.source))
        counts = np.bincount(self.patients)
        return np.flatnonzero(counts[self.patients[self.source]] > 1)

    def shuffled(self, rng: np.random.Generator) -> Question:
        """The same with scans dealt out to the patients by chance; views of scans, with patients."""
        if self.itself:
            return Question(self.patients, self.source, True, rng.permutation(int(self.patients.max()) + 1))
        return Question(rng.permutation(self.patients), self.source, False)


def hits(
    alike: np.ndarray, question: Question, ranks: Sequence[int], rng: np.random.Generator, draws: int = 20
) -> np.ndarray:
    """How often the right patient is among the first k, for each probe that has a right answer.

    Each patient stands in the gallery with one scan, drawn anew `draws` times: so chance is k of N whatever
    the number of scans that each has. Those that are equally alike share their places.

    Args:
        alike: (n, m) of probes and gallery.
        question: what is asked.
        ranks: the k.
        rng: of the draws.
        draws: how many.

    Returns:
        (asked probes, ranks), 0 to 1.
    """
    asked = question.asked
    patients, source = question.patients, question.source[asked]
    order = np.argsort(patients, kind="stable")
    counts = np.bincount(patients)
    starts = np.cumsum(counts) - counts
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    rows = np.arange(len(asked))
    wanted = np.asarray(ranks)
    found = np.zeros((len(asked), len(wanted)))
    for _ in range(draws):
        drawn = order[starts + (rng.random(len(counts)) * counts).astype(int)]
        right = source
        if not question.itself:  # any but the scan itself: so many places further round among its patient's
            whose = patients[source]
            further = 1 + (rng.random(len(asked)) * (counts[whose] - 1)).astype(int)
            right = order[starts[whose] + (place[source] - starts[whose] + further) % counts[whose]]
        gallery = alike[asked][:, drawn]
        gallery[rows, patients[source]] = alike[asked, right]
        looked_at = patients[source] if question.answer is None else question.answer[patients[source]]
        own = gallery[rows, looked_at][:, None]
        gallery[rows, looked_at] = -np.inf
        before = (gallery > own).sum(1)[:, None]
        equal = (gallery == own).sum(1)[:, None]
        found += np.clip((wanted - before) / (equal + 1), 0, 1)
    return found / draws


def rates(found: np.ndarray, patients: np.ndarray) -> list[Share]:
    """The share of each rank: the mean over patients of each patient's mean.

    The interval takes each patient as one case: scans of one are no independent ones.

    Args:
        found: (probes, ranks) as `hits` gives them.
        patients: (probes,) whose each is.
    """
    means = np.array([found[patients == each].mean(0) for each in np.unique(patients)])
    return [wilson(float(share), len(means)) for share in means.mean(0)]


def auc(low: Sequence[float], high: Sequence[float]) -> Share:
    """The probability that one of `high` exceeds one of `low`, with its 95 % interval.

    The area under the ROC curve (Mann-Whitney), and the score interval with the variance of Hanley and McNeil
    1982 (Newcombe 2006, method 5), which has a width also where the two do not overlap.

    Raises:
        ValueError: one of the two is empty.
    """
    first, second = np.asarray(low, float), np.asarray(high, float)
    if not len(first) or not len(second):
        raise ValueError("two groups are needed")
    above = (second[:, None] > first).mean()
    area = float(above + 0.5 * (second[:, None] == first).mean())
    half = (len(first) + len(second)) / 2 - 1

    def apart(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = theta * (1 - theta) * spread / (len(first) * len(second))
        return float((area - theta) ** 2 - _Z**2 * variance)

    edge = 1e-9
    below = brentq(apart, 0, area - edge) if area > edge else 0.0
    beyond = brentq(apart, area + edge, 1) if area < 1 - edge else 1.0
    return Share(area, float(below), float(beyond))
