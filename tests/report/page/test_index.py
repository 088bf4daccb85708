"""The page over many scans: structure, links that lead somewhere, texts that stay texts."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import html5lib
import pytest

from medrecon.atlas.summary import write_summary
from medrecon.errors import OutputError
from medrecon.evaluation.scores import ScanScores
from medrecon.report.index import write_index

sys.path.insert(0, str(Path(__file__).parent))
import made
from test_page import Seen, parse


def scans(count: int = 3) -> list[ScanScores]:
    """Scans whose second layer gets worse from one to the next."""
    return [
        made.scan(
            made.layer("level1", math.inf),
            made.layer("level2", 34.0 - 2 * k),
            key=f"{k}" * 8,
            label=f"CT {k}",
        )
        for k in range(count)
    ]


def index(
    folder: Path, found: Sequence[ScanScores], links: Sequence[str] = (), **more: Any
) -> tuple[str, Seen]:
    """The page as text and as a parser sees it, from the summary that a run makes of the scans."""
    folder.mkdir(parents=True)
    summary = write_summary(folder, found, {s.key: k for k, s in enumerate(found)})
    pairs = list(zip(found, links or [f"../{s.key}/report.html" for s in found], strict=True))
    page = write_index(folder / "index.html", pairs, summary["results"], **more)
    text = page.read_text(encoding="utf-8")
    parser = html5lib.HTMLParser()
    parser.parse(text)
    assert parser.errors == []
    return text, parse(page)


def test_it_shows_means_and_leads_to_each_scan(tmp_path: Path) -> None:
    found = scans()
    for scores in found:
        (tmp_path / scores.key).mkdir()
        (tmp_path / scores.key / "report.html").write_text("a page")
    _, seen = index(tmp_path / "summary", found)
    assert "".join(seen.text["h1"]) == "3 scans of 3 patients"
    links = [a["href"] or "" for a in seen.all("a") if not (a["href"] or "#").startswith("#")]
    assert len(links) == 3
    assert all((tmp_path / "summary" / unquote(link)).is_file() for link in links)
    assert seen.text["a"][-3:] == ["CT 0", "CT 1", "CT 2"]
    words = " ".join(seen.words.split())
    assert "PSNR (dB) 3 32.0" in words, "the mean of 34, 32 and 30"
    assert "detail gone beyond (lp/mm) 3 0.15" in words
    assert "28.8" in words, "a control beside each scan's score"
    assert "∞" in words, "level1 gives the scan back"
    assert [len(seen.all(tag)) for tag in ("h1", "main", "caption", "script")] == [1, 1, 2, 0]
    assert {path.name for path in (tmp_path / "summary" / "figures").iterdir()} == {
        "psnr_by_layer.png",
        "psnr_by_layer.svg",
    }


def test_its_parts_have_names_that_are_there(tmp_path: Path) -> None:
    more = {"outliers": [{"scan": "CT 1", "layer": "level2", "measures": "psnr"}]}
    _, seen = index(tmp_path / "s", scans(), failed=[{"path": "a.nii", "message": "broken"}], **more)
    ids = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in seen.tags:
        for name in (attrs.get("aria-labelledby") or "").split():
            assert name in ids
    for place in (a["href"] or "" for a in seen.all("a")):
        assert not place.startswith("#") or place[1:] in ids
    assert "a.nii : broken" in " ".join(seen.words.split())
    assert "To be read with care" in seen.words


def test_hostile_texts_are_harmless(tmp_path: Path) -> None:
    bad = made.HOSTILE
    scores = made.scan(made.layer(bad), label=bad, modality=bad, units=bad, key=bad)
    text, seen = index(
        tmp_path / "s",
        [scores],
        ['../a b"><script>#?/report.html'],
        outliers=[{"scan": bad, "layer": bad, "measures": bad}],
        failed=[{"path": bad, "message": bad}],
    )
    assert "<img src=x" not in text
    assert "<script" not in text
    assert not [image for image in seen.all("img") if image.get("src") == "x"]
    assert not set("\u202e\u2028\x1b") & set(text)
    assert "{{7*7}}" in seen.words
    assert seen.all("a")[-1]["href"] == "../a%20b%22%3E%3Cscript%3E%23%3F/report.html"


def test_nothing_is_asked_for_from_outside(tmp_path: Path) -> None:
    text, seen = index(tmp_path / "s", scans(1))
    [policy] = [m["content"] or "" for m in seen.all("meta") if m.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert "script-src 'none'" in policy
    assert not seen.all("link")
    assert "url(" not in text.replace("url(#", ""), "only to parts of itself"


def test_scans_without_controls_show_no_score(tmp_path: Path) -> None:
    found = [made.scan(made.layer("level1", controls=()), key=key) for key in "ab"]
    text, seen = index(tmp_path / "s", found)
    assert "no score is shown" in text
    assert "33.0" not in seen.words
    assert not (tmp_path / "s" / "figures").exists()


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_index(tmp_path / "file" / "index.html", [], [])
