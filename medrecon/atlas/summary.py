"""Many scans: which belong to one patient, and what their figures come to together."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from medrecon.atlas.output import can_write_parquet, finite, rows_of, write_csv, write_json, write_parquet
from medrecon.evaluation.measures import MEASURES, SOURCE, Measure
from medrecon.evaluation.scores import ScanScores
from medrecon.evaluation.statistics import CONFIDENCE, RESAMPLES, outliers, summarise
from medrecon.io.scan import Scan

SUMMARY, SUMMARY_TABLE, ALL_ROWS, PARQUET = "summary.json", "summary.csv", "metrics.csv", "metrics.parquet"


def patient_numbers(scans: Sequence[Scan]) -> dict[str, int | None]:
    """Scan key -> number of its patient, counted from 1 in the order met; None where the file does not say.

    DICOM series with the same PatientID belong together; it is compared as a hash with a salt that is thrown
    away, and nothing of it is written. A series without one, and any other file, is of somebody unknown.
    """
    salt = secrets.token_bytes(16)
    seen: dict[str, int] = {}
    numbers: dict[str, int | None] = {}
    for scan in scans:
        patient = _patient(scan)
        if patient is None:
            numbers[scan.key] = None
            continue
        hashed = hashlib.sha256(salt + patient.encode("utf-8", "surrogateescape")).hexdigest()
        numbers[scan.key] = seen.setdefault(hashed, len(seen) + 1)
    return numbers


def count_patients(patients: Sequence[Any]) -> int | None:
    """How many there are; None where one is unknown."""
    return None if None in patients else len(set(patients))


def _patient(scan: Scan) -> str | None:
    if scan.format != "dicom":
        return None
    try:
        header = pydicom.dcmread(scan.files[0], specific_tags=["PatientID"], stop_before_pixels=True)
    except (OSError, InvalidDicomError, ValueError):
        return None
    said = str(header.get("PatientID", "")).strip()
    return f"PatientID {said}" if said else None


def write_summary(
    folder: Path,
    scores: Sequence[ScanScores],
    patients: Mapping[str, int | None],
    failed: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Write what many scans come to: summary.json and .csv, and each scan and layer in metrics.csv.

    metrics.parquet beside it where pyarrow is installed; the summary says whether.

    Args:
        folder: where the scans' own folders are.
        scores: of the scans that went well.
        patients: scan key -> patient's number, None where it is not known.
        failed: what went wrong with the others.

    Returns:
        What summary.json holds.
    """
    rows = [{"patient": patients.get(s.key), **row} for s in scores for row in rows_of(s)]
    _flag(rows)
    table = summary_rows(rows)
    write_csv(folder / ALL_ROWS, rows)
    parquet = can_write_parquet()
    if parquet:
        write_parquet(folder / PARQUET, rows)
    write_csv(folder / SUMMARY_TABLE, table)
    content: dict[str, Any] = {
        "scans": len(scores),
        "patients": count_patients([patients.get(s.key) for s in scores]),
        "interval": interval_words([patients.get(s.key) for s in scores]),
        "parquet": PARQUET if parquet else "not written: needs pyarrow",
        "patient_of": {s.key: patients.get(s.key) for s in scores},
        "outliers": [
            {"scan": row["scan"], "layer": row["layer"], "measures": row["outlier"]}
            for row in rows
            if row["outlier"]
        ],
        "failed": [dict(fault) for fault in failed],
        "results": [{name: finite(value) for name, value in row.items()} for row in table],
    }
    write_json(folder / SUMMARY, content)
    return content


def interval_words(patients: Sequence[Any]) -> str:
    """What the intervals of means were drawn from."""
    over = "scans" if set(patients) == {None} else "patients"
    if over == "patients" and None in patients:
        over = "patients, scans of somebody unknown counting as one each"
    return f"{CONFIDENCE:.0%} percentile bootstrap over {over}, {RESAMPLES} resamples"


def unit_groups(measure: Measure, units: Sequence[str]) -> list[str | None]:
    """The units whose scans have a mean of their own; None stands for all scans together.

    Errors in arbitrary units mean nothing across scans and have no mean; what refers to a range (PSNR, SSIM)
    is averaged over scans whose range is of one kind.
    """
    kinds = sorted(set(units))
    if measure.unit == SOURCE:
        return [kind for kind in kinds if kind or list(units).count(kind) == 1]
    return list(kinds) if len(kinds) > 1 else [None]


def summary_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each layer and measure; scans in different units are kept apart, see `unit_groups`."""
    table = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        ours = [row for row in rows if row["layer"] == layer]
        for measure in (measure for measure in MEASURES if measure.summarised):
            for units in unit_groups(measure, [row["units"] for row in ours]):
                some = [row for row in ours if units is None or row["units"] == units]
                found = summarise([row[measure.key] for row in some], [row["patient"] for row in some])
                if found.scans:
                    named = "" if units is None else units or "arbitrary units"
                    table.append({"layer": layer, "measure": measure.key, "units": named, **vars(found)})
    return table


def _flag(rows: Sequence[dict[str, Any]]) -> None:
    """Name in each row the measures by which its scan stands out among those of its layer and modality."""
    for row in rows:
        row["outlier"] = ""
    for kind in {(row["layer"], row["modality"]) for row in rows}:
        ours = [row for row in rows if (row["layer"], row["modality"]) == kind]
        for measure in (measure for measure in MEASURES if measure.flagged):
            for place in outliers([row[measure.key] for row in ours]):
                ours[place]["outlier"] = f"{ours[place]['outlier']} {measure.key}".strip()
