"""Two atlases of the same scans: the difference put in is the one found."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from medrecon.atlas.compare import compare_atlases, write_comparison
from medrecon.atlas.output import read_scores, rows_of
from medrecon.atlas.summary import summary_rows
from medrecon.errors import UsageError
from medrecon.evaluation.scores import ScanScores

_spec = importlib.util.spec_from_file_location(
    "scores_of_tests", Path(__file__).parents[1] / "evaluation" / "test_scores.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
SCAN: ScanScores = _module.SCAN


def run(shift: float, names: tuple[str, ...] = ("level3",), count: int = 6) -> list[ScanScores]:
    """Scans whose PSNR goes up by `shift`, give or take a little."""
    return [
        replace(
            SCAN,
            key=f"{k:08x}",
            layers=tuple(
                replace(SCAN.layers[0], layer=name, psnr=30 + k + shift + 0.1 * (k % 3)) for name in names
            ),
        )
        for k in range(count)
    ]


def found(content: dict, measure: str = "psnr") -> dict:
    return next(row for row in content["results"] if row["measure"] == measure)


def test_the_difference_is_found_with_its_interval(tmp_path):
    first = [replace(s, layers=(replace(s.layers[0], psnr=30.0 + k),)) for k, s in enumerate(run(0))]
    content = compare_atlases(first, run(0.5), names=("a", "b"))
    row = found(content)
    assert row["difference"] == pytest.approx(0.6, abs=1e-9)
    assert row["second"] - row["first"] == pytest.approx(0.6, abs=1e-9)
    assert 0.5 <= row["low"] <= row["difference"] <= row["high"] <= 0.7
    assert row["excludes_zero"]
    assert not found(content, "ssim")["excludes_zero"]
    assert (content["scans"], content["patients"], content["notes"]) == (6, None, [])
    files = write_comparison(tmp_path, content)
    assert {f.suffix for f in files} == {".json", ".csv", ".html", ".png", ".svg"}


def test_scans_of_one_patient_count_as_one():
    content = compare_atlases(
        run(0), run(0.5), names=("a", "b"), patients={f"{k:08x}": k // 3 for k in range(6)}
    )
    assert content["patients"] == 2
    alone = compare_atlases(run(0), run(1), names=("a", "b"), patients={f"{k:08x}": 1 for k in range(6)})
    assert found(alone)["low"] is None
    assert not found(alone)["excludes_zero"]


def test_layers_of_two_encoders_are_paired_in_order_and_that_is_said():
    content = compare_atlases(run(0, ("relu1", "relu2")), run(1, ("level1", "level2")), names=("a", "b"))
    assert {row["layer"] for row in content["results"]} == {"relu1 / level1", "relu2 / level2"}
    assert "paired in order" in content["notes"][0]


def test_nothing_in_common_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no layer in common"):
        compare_atlases(run(0, ("a", "b")), run(0, ("c",)), names=("a", "b"))
    with pytest.raises(UsageError, match="no scan in common"):
        compare_atlases(run(0), [replace(SCAN, key="ffffffff")], names=("a", "b"))
    with pytest.raises(UsageError, match=r"metrics\.json"):
        read_scores(tmp_path)


def test_scans_of_one_run_only_are_told():
    content = compare_atlases(run(0), run(0, count=4), names=("a", "b"))
    assert content["scans"] == 4
    assert "2 scan(s)" in content["notes"][0]


def test_errors_in_other_units_are_not_averaged_together():
    scans = [*run(0, count=3), replace(SCAN, key="ffffffff", units="")]
    rows = [{"patient": s.key, **row} for s in scans for row in rows_of(s)]
    table = {(row["measure"], row["units"]): row["scans"] for row in summary_rows(rows)}
    assert table["mae", "HU"] == 3
    assert table["mae", "arbitrary units"] == 1
    assert (table["psnr", "HU"], table["psnr", "arbitrary units"]) == (3, 1)


def test_the_page_names_both_and_escapes_them(tmp_path):
    hostile = "<script>alert(1)</script>"
    content = compare_atlases(run(0), run(0.5), names=(hostile, "b"))
    write_comparison(tmp_path, content)
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "b against &lt;script&gt;" in page
    assert "<script" not in page
    assert "script-src 'none'" in page
    assert "MAE (HU)" in page
    assert 'popovertarget="results-t0"' in page
