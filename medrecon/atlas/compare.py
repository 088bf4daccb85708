"""Two atlases of the same scans side by side: paired differences, and how sure they are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.atlas.output import finite, read_scores, rows_of, write_csv, write_json
from medrecon.atlas.summary import SUMMARY, count_patients, interval_words, unit_groups
from medrecon.errors import UsageError
from medrecon.evaluation.measures import MEASURES
from medrecon.evaluation.scores import ScanScores
from medrecon.evaluation.statistics import summarise
from medrecon.io.files.publish import publish

COMPARISON = "comparison"

_COMPARED = tuple(measure for measure in MEASURES if measure.compared)


def compare_atlases(
    first: Sequence[ScanScores],
    second: Sequence[ScanScores],
    *,
    names: tuple[str, str],
    patients: Mapping[str, int | None] | None = None,
) -> dict[str, Any]:
    """Paired differences, second - first, on the scans that both measured.

    Layers are paired by name. Where the two have no layer in common but as many each (two encoders), they are
    paired in order, shallow to deep, and the result says so.

    Args:
        first: one run's scores.
        second: the other's.
        names: what to call the two.
        patients: scan key -> patient, so that scans of one patient count as one; a scan of somebody unknown
            counts alone.

    Returns:
        "pairs": a row for each scan and layer; "results": for each layer and measure the mean of either, the
        mean difference, its 95 % interval, and whether that excludes zero; "notes".

    Raises:
        UsageError: no scan or no layer in common.
    """
    ours, theirs = ({s.key: s for s in scores} for scores in (first, second))
    keys = [key for key in ours if key in theirs]
    if not keys:
        raise UsageError("the two have no scan in common", remedy="run both atlases on the same scans")
    notes = []
    if left := len(ours) + len(theirs) - 2 * len(keys):
        notes.append(f"{left} scan(s) that only one of the two measured are left out")
    layers, paired = _pair_layers(ours[keys[0]], theirs[keys[0]])
    notes += paired
    pairs = []
    for key in keys:
        rows = [{row["layer"]: row for row in rows_of(scores[key])} for scores in (ours, theirs)]
        for one, other in layers:
            if one in rows[0] and other in rows[1]:
                a, b = rows[0][one], rows[1][other]
                pairs.append(_pair(a, b, key, (patients or {}).get(key)))
    return {
        "first": names[0],
        "second": names[1],
        "scans": len(keys),
        "patients": count_patients([pair["patient"] for pair in pairs]),
        "interval": interval_words([pair["patient"] for pair in pairs]),
        "notes": notes,
        "results": _results(pairs),
        "pairs": [{name: finite(value) for name, value in pair.items()} for pair in pairs],
    }


def write_comparison(folder: Path, content: Mapping[str, Any]) -> list[Path]:
    """Write comparison.json and .csv, and the page with its figure, into a folder that is there."""
    from medrecon.report.paired import write_paired

    write_json(folder / f"{COMPARISON}.json", content)
    write_csv(folder / f"{COMPARISON}.csv", content["results"])
    write_csv(folder / "pairs.csv", content["pairs"])
    write_paired(folder / f"{COMPARISON}.html", content)
    return sorted(folder.glob(f"{COMPARISON}.*"))


def compare_folders(first: Path, second: Path, output: Path) -> dict[str, Any]:
    """Compare the outputs of two runs, and write what comes of it to a folder, whole or not at all.

    Raises:
        UsageError: one is no output of a run, or they have nothing in common.
        OutputError: it exists, or cannot be written.
    """
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    content = compare_atlases(
        read_scores(first), read_scores(second), names=names, patients=_patients_of(first)
    )
    with publish(output) as folder:
        folder.mkdir()
        write_comparison(folder, content)
    return content


def _patients_of(folder: Path) -> dict[str, int | None] | None:
    try:
        known = json.loads((folder / "summary" / SUMMARY).read_text(encoding="utf-8"))["patient_of"]
    except (OSError, ValueError, KeyError):
        return None
    return dict(known)


def _pair_layers(first: ScanScores, second: ScanScores) -> tuple[list[tuple[str, str]], list[str]]:
    one, other = [s.layer for s in first.layers], [s.layer for s in second.layers]
    common = [(name, name) for name in one if name in other]
    if common:
        return common, []
    if len(one) != len(other):
        raise UsageError(
            f"no layer in common: {', '.join(one)} against {', '.join(other)}",
            remedy="name as many layers of the one as of the other: they are paired in order",
        )
    pairs = list(zip(one, other, strict=True))
    said = ", ".join(f"{a} with {b}" for a, b in pairs)
    return pairs, [f"no layer has the same name: paired in order, {said}"]


def _pair(a: Mapping[str, Any], b: Mapping[str, Any], key: str, patient: Any) -> dict[str, Any]:
    same = a["layer"] == b["layer"]
    row = {
        "scan": a["scan"],
        "key": key,
        "patient": patient,
        "layer": a["layer"] if same else f"{a['layer']} / {b['layer']}",
        "units": a["units"],
    }
    for measure in (each.key for each in _COMPARED):
        first, second = a[measure], b[measure]
        known = all(v is not None and math.isfinite(v) for v in (first, second))
        row |= {f"{measure} first": first, f"{measure} second": second}
        row[f"{measure} difference"] = second - first if known else None
    return row


def _results(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    results = []
    for layer in dict.fromkeys(pair["layer"] for pair in pairs):
        for measure in _COMPARED:
            ours = [pair for pair in pairs if pair["layer"] == layer]
            for units in unit_groups(measure, [pair["units"] for pair in ours]):
                some = [pair for pair in ours if units is None or pair["units"] == units]
                some = [pair for pair in some if pair[f"{measure.key} difference"] is not None]
                if some:
                    results.append(_result(layer, measure.key, units, some))
    return results


def _result(
    layer: str, measure: str, units: str | None, pairs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    patients = [pair["patient"] for pair in pairs]
    first, second, apart = (
        summarise([pair[f"{measure} {which}"] for pair in pairs], patients)
        for which in ("first", "second", "difference")
    )
    clear = math.isfinite(apart.low) and (apart.low > 0 or apart.high < 0)
    row = {
        "layer": layer,
        "measure": measure,
        "units": "" if units is None else units or "arbitrary units",
        "scans": apart.scans,
        "patients": apart.patients,
        "first": first.mean,
        "second": second.mean,
        "difference": apart.mean,
        "low": apart.low,
        "high": apart.high,
        "excludes_zero": clear,
    }
    return {name: finite(value) for name, value in row.items()}
