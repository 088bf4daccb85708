"""What a run of `medrecon cohort` left behind, held against its input and against `medrecon reconstruct`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common import PYTHON

MEDRECON = (*PYTHON, "-m", "medrecon")

Row = Mapping[str, str]

_SAME_VOXELS = """
import sys, nibabel, numpy as np
ours, theirs = (np.asarray(nibabel.load(path).dataobj) for path in sys.argv[1:])
sys.exit(0 if np.array_equal(ours, theirs) else 1)
"""
"""Run in a process of its own: the benchmark itself must stay small."""


def check(source: Path, output: Path, bad: int) -> dict[str, Any]:
    """Each study once in the table, a folder for each good one alone, voxels as from reconstruct.

    Args:
        source: the folder of studies, as `cohort_studies.make_studies` left it.
        output: of the run.
        bad: how many of the studies are broken.

    Returns:
        The counts, and the memory of the workers in MiB.
    """
    rows = read_rows(output)
    good = [row for row in rows if row["status"] == "done"]
    others = [row["source"] for row in rows if row["status"] != "done"]
    studies = {path.name for path in source.iterdir()}
    told = [row["source"] for row in rows]
    folders = {path.name for path in output.iterdir() if path.is_dir()}
    return {
        "studies": len(studies),
        "right": len(good),
        "reported": len(others),
        "reported_are_the_bad": bad > 0 and all(name.startswith("bad") for name in others),
        "lost": len(studies - set(told)),
        "doubled": len(told) - len(set(told)),
        "folders_match": folders == {row["study"] for row in good},
        "compared_with_reconstruct": _compared(good, source, output),
        "tried_again": sum(int(row["tries"] or 1) > 1 for row in rows),
        **_memory(good),
    }


def _memory(rows: Iterable[Row]) -> dict[str, Any]:
    """How many workers there were, how much the one that grew most gained, the least and the most held."""
    held: dict[str, list[float]] = {}
    for row in rows:
        held.setdefault(row["worker"], []).append(float(row["memory_mib"]))
    # of the most that is held: from study to study a block is given back or kept, either way
    growth = [max(each[len(each) // 2 :]) - max(each[:10]) for each in held.values() if len(each) > 20]
    every = [value for each in held.values() for value in each]
    return {
        "workers": len(held),
        "memory_growth_mib": max(growth, default=None),
        "memory_mib": [min(every, default=None), max(every, default=None)],
    }


def read_rows(output: Path) -> list[Row]:
    """The table of a run, with the name of each study's source from the table beside the output."""
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with output.with_name(f"{output.name}.sources.csv").open(encoding="utf-8", newline="") as file:
        sources = {row["study"]: row["source"] for row in csv.DictReader(file)}
    return [{**row, "source": sources[row["study"]]} for row in rows]


def _compared(good: Iterable[Row], source: Path, output: Path) -> str:
    """How many of one study in sixteen came out as `medrecon reconstruct` makes them, bit for bit."""
    rows = [row for row in good if int(row["source"][1:5]) % 16 == 0]
    if not rows:
        return "0/0"
    same = 0
    with tempfile.TemporaryDirectory() as folder:
        listed, made = Path(folder) / "in", Path(folder) / "out"
        listed.mkdir()
        for row in rows:
            (listed / row["source"]).symlink_to(source / row["source"])
        command = [
            *MEDRECON,
            "reconstruct",
            str(listed),
            str(made),
            "-l",
            "level3",
            "--json",
            "--names-from-source",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results = json.loads(done.stdout)["results"]
        theirs = {Path(result["path"]).name: result["outputs"]["level3"] for result in results}
        for row in rows:
            ours = next((output / row["study"]).glob("*.nii.gz"))
            words = [sys.executable, "-c", _SAME_VOXELS, str(ours), theirs[row["source"]]]
            same += subprocess.run(words, check=False).returncode == 0
    return f"{same}/{len(rows)}"
