"""The match itself: each scan among the others, for each layer, control and defence, beside chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medrecon.atlas.audit.asked import Asked
from medrecon.atlas.audit.cohort import FEATURES, LINEAR, PLAIN, RECONSTRUCTION, SCAN, Cohort, Key
from medrecon.atlas.audit.defences import Defence
from medrecon.evaluation.identification import Question, hits, rates, similarity

OTHER = "other scans"
"""The condition that needs no made view: a patient's scan among those of all, to be found by another one."""

_SHUFFLES = 40


def match_rows(
    cohort: Cohort, conditions: Sequence[str], results: Sequence[str], asked: Asked
) -> list[dict[str, Any]]:
    """A row for each condition, result, what is matched, defence and rank.

    What leaves (probes) is matched to what the attacker has (gallery): features to features of the scans that
    he holds, to which he does what the defence does, as far as it can be repeated; reconstructions to those
    scans themselves.

    Args:
        cohort: as `gather` made it.
        conditions: `OTHER`, or the names of views.
        results: of the network.
        asked: defences, ranks, way of comparing, seed.

    Returns:
        Rows of "condition", "layer" ("" for the scan itself), "matched", "defence", "values", "rank", "rate",
        "low", "high", "chance", "shuffled", "shuffled_low", "shuffled_high", "patients" and "probes".
    """
    rows = []
    for name in conditions:
        view = PLAIN if name == OTHER else name
        itself = name != OTHER
        question = Question(cohort.patients, np.arange(len(cohort.patients)), itself)
        for key, gallery in _pairs(view, results, asked.defences):
            alike = similarity(cohort.vectors[key], cohort.vectors[gallery], asked.compare)
            shares = _shares(alike, question, asked)
            _, layer, matched, defence = key
            about = {"condition": name, "layer": layer, "matched": matched, "defence": defence}
            rows += [
                {**about, "values": cohort.vectors[key].shape[1], "rank": rank, **share}
                for rank, share in zip(asked.ranks, shares, strict=True)
            ]
    return rows


def _pairs(view: str, results: Sequence[str], defences: Sequence[Defence]) -> Iterator[tuple[Key, Key]]:
    """What leaves, and what it is matched to."""
    scan = (PLAIN, "", SCAN, "")
    yield (view, "", SCAN, ""), scan
    for result in results:
        known = (PLAIN, result, FEATURES, "")
        yield (view, result, FEATURES, ""), known
        yield (view, result, RECONSTRUCTION, ""), scan
        yield (view, result, LINEAR, ""), (PLAIN, result, LINEAR, "")
        for defence in defences:
            same = (PLAIN, result, FEATURES, defence.name)
            yield (view, result, FEATURES, defence.name), same if defence.repeatable else known


def _shares(alike: np.ndarray, question: Question, asked: Asked) -> list[dict[str, Any]]:
    rng = np.random.default_rng(asked.seed)
    probes = question.asked
    whose = question.patients[question.source[probes]]
    count = int(question.patients.max()) + 1
    right = rates(hits(alike, question, asked.ranks, rng), whose)
    by_chance = np.array(
        [hits(alike, question.shuffled(rng), asked.ranks, rng, draws=2).mean(0) for _ in range(_SHUFFLES)]
    )
    return [
        {
            "rate": share.value,
            "low": share.low,
            "high": share.high,
            "chance": rank / count,
            "shuffled": float(by_chance[:, k].mean()),
            "shuffled_low": float(np.quantile(by_chance[:, k], 0.025)),
            "shuffled_high": float(np.quantile(by_chance[:, k], 0.975)),
            "above_chance": bool(share.low > rank / count),
            "patients": len(np.unique(whose)),
            "probes": len(probes),
        }
        for k, (rank, share) in enumerate(zip(asked.ranks, right, strict=True))
    ]
