"""Findings in words and as a table: is it still there?"""

from __future__ import annotations

from typing import Any

from medrecon.evaluation.measures import FINDING_MEASURES, Measure
from medrecon.evaluation.scores import Finding, FindingKept, LayerScore, ScanScores
from medrecon.report.words import amount, clean, decimals, number

STILL_THERE = 0.8
"""Share of a finding's contrast that a layer must keep to be named as the deepest that shows it."""


VAGUE = 1.0
"""Width of an interval of kept contrast from which on nothing can be said."""


def finding_answers(scores: ScanScores, most: int = 3) -> list[tuple[str, str]]:
    """Question and answer for the first findings, for the top of the page."""
    return [
        (f"Is {clean(finding.name)} still there?", finding_sentence(scores, finding))
        for finding in scores.findings[:most]
    ]


def finding_sentence(scores: ScanScores, finding: Finding) -> str:
    """Down to which layer a finding keeps its contrast, and what the next one leaves of it."""
    if not finding.contrast:
        return "Its contrast cannot be measured: there is too little around it, or it has none."
    known = [(layer, layer.findings.get(finding.name)) for layer in scores.layers]
    rows = [(layer, kept) for layer, kept in known if kept is not None and kept.kept is not None]
    if not rows:
        return "No layer was measured."
    vague = next((n for n, (_, kept) in enumerate(rows) if _is_vague(kept)), len(rows))
    lost = rows[vague][0].layer if vague < len(rows) else ""
    rows = rows[:vague]
    good = 0
    while good < len(rows) and (rows[good][1].kept or 0.0) >= STILL_THERE:
        good += 1
    said = []
    if good:
        said.append(f"down to {_keeps(*rows[good - 1])} of its contrast{_sure(rows[good - 1][1])}")
    if good < len(rows):
        lead = "at" if good else "already at"
        said.append(f"{lead} {_keeps(*rows[good])}{'' if good else ' of its contrast'}{_sure(rows[good][1])}")
    if good + 1 < len(rows):
        said.append(f"at {_keeps(*rows[-1])}{_sure(rows[-1][1])}")
    if lost:
        size = amount(abs(finding.contrast), scores.units)
        said.append(
            f"at {clean(lost)} it cannot be told: errors there are as large as its contrast of {size}"
        )
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def finding_table(scores: ScanScores) -> dict[str, Any] | None:
    """What each layer keeps of each finding; None without findings."""
    if not scores.findings:
        return None
    digits = {
        measure.key: min(4, decimals([v for f in scores.findings if (v := measure.of(f)) is not None]))
        for measure in FINDING_MEASURES
        if measure.digits is None
    }

    def cells(each: Finding | FindingKept) -> list[str]:
        return [_cell(measure, each, digits) for measure in FINDING_MEASURES]

    groups = []
    for finding in scores.findings:
        where = ", ".join(number(v, 1) for v in finding.at)
        group: list[tuple[str, str, list[str]]] = [
            ("head", f"{finding.name} ({finding.voxels:,} voxels about {where} mm)", []),
            ("under", "source", cells(finding)),
        ]
        group += [
            ("under", layer.layer, cells(layer.findings[finding.name]))
            for layer in scores.layers
            if finding.name in layer.findings
        ]
        groups.append(group)
    titles = [m.title(scores.units)[0].upper() + m.title(scores.units)[1:] for m in FINDING_MEASURES]
    terms = {title: m.meaning for title, m in zip(titles, FINDING_MEASURES, strict=True)}
    return {"columns": ["Finding", *titles], "groups": groups, "terms": terms}


def _cell(measure: Measure, each: Finding | FindingKept, digits: dict[str, int]) -> str:
    if measure.key == "kept":
        if isinstance(each, Finding):
            return ""
        return "–" if each.kept is None else f"{_percent(each.kept)}{_sure(each, '')}"
    return number(measure.of(each), digits.get(measure.key, measure.digits or 0), signed=measure.signed)


def _is_vague(kept: FindingKept) -> bool:
    return kept.low is not None and kept.high is not None and kept.high - kept.low > VAGUE


def _keeps(layer: LayerScore, kept: FindingKept) -> str:
    return f"{clean(layer.layer)} it keeps {_percent(kept.kept or 0.0)}"


def _percent(share: float) -> str:
    return f"{number(100 * share, 0)} %"


def _sure(kept: FindingKept, word: str = "95 % interval ") -> str:
    if kept.low is None or kept.high is None or kept.high - kept.low < 0.005:
        return ""
    return f" ({word}{number(100 * kept.low, 0)} to {number(100 * kept.high, 0)} %)"
