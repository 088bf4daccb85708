"""Tables: no cell is code to a spreadsheet, and what was written is read back."""

from __future__ import annotations

import csv
import io
import math
import stat
from pathlib import Path

import numpy as np
import pytest

from medrecon.io.files.sources import sources_path, write_sources
from medrecon.io.files.table import cell, csv_text
from medrecon.io.scan import LeftOut, Scan, ScanError

CODE = [
    "=cmd|'/c calc'!A1", "+cmd|x", "-2+3+cmd|x", "@SUM(1)", "\t=1+1", "\r=1", "\n=1", "  =1+1", "\u00a0=1",
    "\uff1d1+1", "\uff0b1", "\uff0d1+cmd", "\uff20SUM(1)", "a;=cmd|x", "a\t=1", "a\n=1", "a;@b", "a;+b", "=",
    "-", "@", "+", "--overwrite", "=HYPERLINK(1)", "\0=1",
]  # fmt: skip
PLAIN = [
    "level3",
    "a=b",
    "1-2",
    "-1.5",
    "+3",
    "-1e-07",
    "a, -b",
    "a; --overwrite",
    "x@y",
    "1.2.840",
    "",
    "Müller",
]


def runs(text: str) -> bool:
    """Whether a spreadsheet would run it, also one that takes another character for the separator."""
    parts = text.replace("\t", ";").replace("\n", ";").replace("\r", ";").split(";")
    first = parts[0].strip()
    starts = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
    found = [part for part in (first, *parts[1:]) if part.startswith(starts)]
    return any(not part.lstrip("+-").replace(".", "").replace("e-", "").isdigit() for part in found)


@pytest.mark.parametrize("text", CODE)
def test_no_spreadsheet_runs_a_cell(text: str) -> None:
    assert runs(text.replace("\0", ""))
    table = csv_text([{"name": text, text: 1}])
    for row in csv.reader(io.StringIO(table, newline="")):
        assert not any(runs(value) for value in row), row


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_code_stays_as_it_is(text: str) -> None:
    assert cell(text) == text


def test_numbers_and_what_is_missing() -> None:
    rows = [{"a": -1.5, "b": None, "c": math.inf}, {"a": math.nan, "d": True}]
    assert csv_text(rows) == "a,b,c,d\n-1.5,,,\n,,,True\n"
    assert csv_text(rows, ["d", "a"]) == "d,a\n,-1.5\nTrue,\n"


def test_the_sources_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "Doe.nii.gz"
    scan = Scan(path, "nifti", (path,), (1, 1, 1), np.eye(4), key="0a1b2c3d", description="=Doe")
    left_out, refused = LeftOut(tmp_path / "a.txt", "no scan"), ScanError("broken", path=tmp_path / "b.nii")
    table = write_sources(tmp_path / "out", [scan], left_out=[left_out], refused=[refused])
    assert table == sources_path(tmp_path / "out") == tmp_path / "out.sources.csv"
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert (rows[0]["scan"], rows[0]["path"], rows[0]["description"]) == ("scan_0a1b2c3d", str(path), "'=Doe")
    assert [row["note"] for row in rows] == ["", "left out: no scan", "refused: broken"]
