"""Was a scan among those that the network was trained on? The error of its reconstructions may tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import ModelError
from medrecon.evaluation.identification import auc
from medrecon.io.scan import Scan, ScanError

PROVENANCE = "provenance"
"""What stands for a list: the scans that the model's own docs/provenance.json names."""

_FEWEST = 2  # scans in each group
NOT_ASKED = "not measured: nobody said which scans the network was trained on (--members)"


def named_in_provenance(root: Path) -> set[str]:
    """The keys of the scans that a bundle's provenance names; none where it says nothing."""
    try:
        content = json.loads((root / "docs" / "provenance.json").read_text(encoding="utf-8"))
        return {str(scan["key"]) for scan in content["data"]["scans"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def members(scans: Sequence[Scan], said: str, root: Path) -> np.ndarray:
    """Which scans are members: (n,) bool.

    Args:
        scans: the cohort.
        said: a text file of names (* and ?) of files, series folders or scan keys, one a line; or
            "provenance".
        root: the bundle's folder.

    Raises:
        ModelError: the provenance is asked for, and names no scan.
        ScanError: the list cannot be read, or one of the two groups has fewer than two scans.
    """
    if said == PROVENANCE:
        keys = named_in_provenance(root)
        if not keys:
            raise ModelError(
                "its provenance does not say which scans it was trained on",
                path=root,
                remedy="name them in a file by --members",
            )
        found = np.array([scan.key in keys for scan in scans])
    else:
        try:
            lines = Path(said).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise ScanError(f"cannot be read: {error}", path=said, remedy="give a text file") from error
        patterns = [line.strip() for line in lines if line.strip()]
        found = np.array([any(_is(scan, pattern) for pattern in patterns) for scan in scans])
    if found.sum() < _FEWEST or (~found).sum() < _FEWEST:
        raise ScanError(
            f"{found.sum()} scans are members, {(~found).sum()} are not: {_FEWEST} of each are needed",
            path=None if said == PROVENANCE else said,
            remedy="name files, series folders or keys of scans that are in the cohort",
        )
    return found


def _is(scan: Scan, pattern: str) -> bool:
    return pattern == scan.key or fnmatch(scan.path.name, pattern)


def membership_rows(
    errors: Mapping[str, Sequence[float]], control: Mapping[str, Sequence[float]], inside: np.ndarray
) -> list[dict[str, Any]]:
    """How well the error tells members from others, by layer; 0.5 is chance.

    Beside it the same for a code that has learned nothing: what it tells is that members are easier scans.

    Args:
        errors: layer -> mean squared error of each scan.
        control: layer -> that of a linear code of as many values.
        inside: (n,) bool.
    """
    rows = []
    for layer, values in errors.items():
        # the ratio is what remains when easy scans are easy for everybody
        groups = {
            "error": np.asarray(values),
            "linear code": np.asarray(control[layer]),
            "error by that of the code": np.asarray(values) / np.maximum(control[layer], 1e-12),
        }
        for what, each in groups.items():
            area = auc(each[inside], each[~inside])
            rows.append(
                {"layer": layer, "by": what, "auc": area.value, "low": area.low, "high": area.high}
                | {"members": int(inside.sum()), "others": int((~inside).sum())}
            )
    return rows
