"""The page of a privacy audit: verdicts follow from the figures, limits are said, nothing leaks in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import html5lib
import pytest

from medrecon.report.audit import opening, percent, share, verdict, write_audit_page

sys.path.insert(0, str(Path(__file__).parent))
from test_page import parse


def row(layer: str, matched: str, rate: float, *, rank: int = 1, defence: str = "") -> dict[str, Any]:
    low, high = max(0.0, rate - 0.08), min(1.0, rate + 0.08)
    return {
        "condition": "other scans",
        "layer": layer,
        "matched": matched,
        "defence": defence,
        "values": 4096,
        "rank": rank,
        "rate": rate,
        "low": low,
        "high": high,
        "chance": rank / 50,
        "shuffled": rank / 50,
        "shuffled_low": 0.0,
        "shuffled_high": 0.2,
        "above_chance": low > rank / 50,
        "patients": 40,
        "probes": 90,
    }


def content(*rates: float, **more: Any) -> dict[str, Any]:
    """Of layers with these shares, from shallow to deep."""
    layers = [f"level{k}" for k in range(1, len(rates) + 1)]
    rows = [row("", "scan itself", 0.97, rank=rank) for rank in (1, 5)]
    for layer, rate in zip(layers, rates, strict=True):
        for rank in (1, 5):
            rows += [
                row(layer, "features", rate, rank=rank),
                row(layer, "reconstruction", rate / 2, rank=rank),
            ]
            rows += [row(layer, "linear code", rate, rank=rank)]
            rows += [row(layer, "features", rate / 3, rank=rank, defence="noise:1")]
    return {
        "model": "tiny <b>",
        "model_version": "1",
        "scans": 90,
        "patients": 50,
        "patients_with_several_scans": 40,
        "grid": {"size": 64, "spacing_mm": 4.0},
        "values_compared_at_most": 8192,
        "compare": "whitened",
        "ranks": [1, 5],
        "conditions": [{"name": "other scans", "made": False, "words": "another scan of the same patient"}],
        "defences": [{"name": "noise:1", "words": "Gaussian noise"}],
        "layers": [
            {
                "layer": layer,
                "values_per_voxel": 0.5,
                "psnr": None if layer == "level1" else 30.0,
                "linear_code_psnr": 29.0,
                "psnr_with": {"noise:1": 21.0},
            }
            for layer in layers
        ],
        "results": rows,
        "membership": {"said": "not measured: nobody said", "rows": []},
        "face": None,
        "notes": [],
        **more,
    }


def page(folder: Path, given: dict[str, Any]) -> str:
    path = write_audit_page(folder / "report.html", given)
    parser = html5lib.HTMLParser()
    text = path.read_text(encoding="utf-8")
    parser.parse(text)
    assert parser.errors == []
    return text


def test_the_page_is_whole_and_says_what_it_is_worth(tmp_path: Path) -> None:
    text = page(tmp_path, content(0.9, 0.5, 0.02))
    seen = parse(tmp_path / "report.html")
    for words in (
        "lower bound",
        "One who does finds more",
        "not measured: nobody said",
        "90 (82 to 98)",
        "4,096",
    ):
        assert words in seen.words, words
    assert "tiny <b>" in seen.words
    assert "<b>1" not in text
    assert "var(--accent)" in text, "charts follow the page's light and dark"
    assert "://" not in text.replace("http://www.w3.org", "")
    assert (tmp_path / "figures" / "rank_other_scans.svg").exists()


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ((0.9, 0.8), "Each layer that was measured identifies patients"),
        ((0.9, 0.02), "Features of level1 identify patients better than chance does"),
        ((0.02, 0.05), "no better than chance from any layer (level1, level2)"),
    ],
)
def test_the_answer_follows_from_the_figures(rates: tuple[float, ...], said: str) -> None:
    assert said in opening(content(*rates))
    assert ("That is no proof" in opening(content(*rates))) == (min(rates) < 0.1)


def test_a_verdict_names_the_strongest_match_and_what_may_be_chance() -> None:
    given = content(0.9, 0.04)
    found = [row for row in given["results"] if row["layer"] and row["rank"] == 1 and not row["defence"]]
    assert "90 % (82 to 98) of 40 patients come first among 50" in verdict(found[0], given)
    assert verdict(found[0], given).endswith("chance is 2.0 %.")
    low = next(row for row in found if row["layer"] == "level2")
    assert verdict(low, given).endswith("That may be chance.")


def test_made_views_members_and_faces_are_shown(tmp_path: Path) -> None:
    rows = [
        {"layer": "level1", "by": "error", "auc": 0.81, "low": 0.6, "high": 0.93, "members": 5, "others": 6}
    ]
    faces = [
        {"layer": "", "head": "whole", "own": 1.0, "others": 0.4, "heads": 3},
        {"layer": "level1", "head": "defaced", "own": 0.0, "others": None, "heads": 3},
    ]
    given = content(
        0.9,
        membership={"said": "", "rows": rows},
        face={"region": "the front", "without": 2, "rows": faces},
        notes=["scans of several modalities"],
    )
    given["conditions"][0] |= {"made": True}
    assert "Found by a made view: other scans" in " ".join(page(tmp_path, given).split())
    words = parse(tmp_path / "report.html").words
    for said in (
        "Made, not measured",
        "0.81",
        "5 members, 6 others",
        "level1, defaced head",
        "2 scans show none",
    ):
        assert said in words, said


def test_shares_are_set_alike() -> None:
    assert [percent(value) for value in (0.0, 0.013, 0.5, 1.0)] == ["0", "1.3", "50", "100"]
    assert share(row("a", "features", 0.5)) == "50 % (42 to 58)"
