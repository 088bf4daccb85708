"""What a feature file remembers of its source, and the source as far as it can be told from there."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import ModelError
from medrecon.features.file import FeatureFile
from medrecon.features.metadata import FeatureFacts
from medrecon.io.meta import find_again
from medrecon.io.nifti.header import meaningful
from medrecon.io.result_form import source_form
from medrecon.io.scan import ReadOptions, Scan, ScanError
from medrecon.io.value_form import ValueForm

_FAR = 1e-4
"""mm by which the grids of a series and of its features may differ: the rounding of decimal strings."""


def source_facts(scan: Scan) -> dict[str, Any]:
    """`FeatureFacts.source` of a scan: no name, no ID, no path, no UID, no description."""
    return {
        "key": scan.key,
        "series_sha256": _hashed(scan.series_uid),
        "format": scan.format,
        "volume": scan.volume,
        "options": scan.options.to_text(),
        "stored": _stored(scan),
    }


def _hashed(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest() if uid else ""


def _stored(scan: Scan) -> dict[str, Any]:
    form = source_form(scan)
    return {
        "dtype": form.dtype.name,
        "slope": form.slope,
        "intercept": form.intercept,
        "kept": dict(scan.kept),
    }


def stand_in(file: FeatureFile) -> Scan:
    """A scan that stands for the source of features, and says how it stores its values.

    Raises:
        ModelError: the file says nothing that a volume could be made of.
    """
    facts, source = file.facts, file.facts.source
    try:
        stored = source["stored"]
        return Scan(
            path=file.path,
            format=source["format"],
            files=(),
            shape=facts.shape,
            affine=facts.affine,
            modality=facts.modality,
            units=facts.units,
            key=str(source["key"]),
            volume=source["volume"],
            stored=_form(stored),
            kept=meaningful({name: float(value) for name, value in stored.get("kept", {}).items()}),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"its metadata is broken ({type(error).__name__}: {error})",
            path=file.path,
            remedy="get the file again",
        ) from None


def _form(stored: dict[str, Any]) -> ValueForm:
    kind = np.dtype(str(stored["dtype"]))
    form = ValueForm(kind, float(stored.get("slope", 1.0)), float(stored.get("intercept", 0.0)))
    if kind.kind not in "iuf" or not math.isfinite(form.slope * form.intercept) or form.slope == 0:
        raise ValueError(f"no scan stores {form.words}")
    return form


def find_source(file: FeatureFile, place: str | Path) -> Scan:
    """The series that features were made from, found again: read as it was read then.

    Args:
        file: the features.
        place: a folder or a file that holds the series, perhaps among others.

    Raises:
        ScanError: it is not there, is refused now, or has another grid.
    """
    facts = file.facts
    try:
        options = ReadOptions.from_text(str(facts.source.get("options", "")))
        found = find_again(place, options, facts.source.get("volume"))
    except TypeError as error:
        raise ModelError(
            f"its metadata is broken ({error})", path=file.path, remedy="get the file again"
        ) from None
    scan = next((scan for scan in found.scans if _is_same(facts, scan)), None)
    if scan is None and found.refused:
        raise found.refused[0]
    scan = scan or found.scans[0]
    check_source(facts, scan)
    return scan


def check_source(facts: FeatureFacts, scan: Scan) -> None:
    """Refuse a scan that is not the very series that was encoded, on the same grid.

    Raises:
        ScanError: it is another one.
    """
    if not _is_same(facts, scan):
        known = facts.source.get("series_sha256")
        raise ScanError(
            "is not the series that these features were made from (another SeriesInstanceUID or volume)"
            if known
            else "cannot be told from others: these features come from a series without SeriesInstanceUID",
            path=scan.path,
            remedy="name that series, or leave --source out to write NIfTI",
        )
    if scan.shape != facts.shape or np.abs(scan.affine - facts.affine).max() > _FAR:
        raise ScanError(
            f"has another grid than the features: {scan.shape} here, {facts.shape} there, or another place",
            path=scan.path,
            remedy="give the whole series as it was encoded, or leave --source out to write NIfTI",
        )


def _is_same(facts: FeatureFacts, scan: Scan) -> bool:
    known = facts.source.get("series_sha256")
    same = (_hashed(scan.series_uid), scan.volume) == (known, facts.source.get("volume"))
    return bool(known) and same
