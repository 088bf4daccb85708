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
    more.setdefault("patients", summary["patients"])
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


def test_patients_are_counted_only_where_the_files_say_who_is_whom(tmp_path: Path) -> None:
    found = scans()
    for patients, words in (
        ({"0" * 8: 1, "1" * 8: 1, "2" * 8: 2}, "3 scans of 2 patients"),
        ({"0" * 8: 1, "1" * 8: None, "2" * 8: 2}, "3 scans"),
        ({}, "3 scans"),
    ):
        folder = tmp_path / words / str(len(patients))
        folder.mkdir(parents=True)
        summary = write_summary(folder, found, patients)
        page = write_index(
            folder / "i.html", [(s, "x") for s in found], summary["results"], patients=summary["patients"]
        )
        assert "".join(parse(page).text["h1"]) == words
    assert "over scans" in summary["interval"]


def test_errors_of_unlike_units_have_no_mean(tmp_path: Path) -> None:
    found = [
        made.scan(made.layer("level2", 30.0, mae=10.0), key="a" * 8),
        made.scan(made.layer("level2", 34.0, mae=20.0), key="b" * 8),
        made.scan(made.layer("level2", 20.0, mae=900.0), key="c" * 8, units=""),
        made.scan(made.layer("level2", 24.0, mae=0.1), key="d" * 8, units=""),
    ]
    rows = write_summary(tmp_path, found, {})["results"]
    means = {(row["measure"], row["units"]): row["mean"] for row in rows}
    assert means["mae", "HU"] == 15.0
    assert not [units for measure, units in means if measure == "mae" and units != "HU"]
    assert means["psnr", "HU"] == 32.0
    assert means["psnr", "arbitrary units"] == 22.0
    page = write_index(tmp_path / "i.html", [(s, "x") for s in found], rows)
    assert "PSNR (dB), scans in arbitrary units" in parse(page).words


def test_every_measure_is_explained_where_it_stands(tmp_path: Path) -> None:
    _, seen = index(tmp_path / "summary", scans())
    ids = {attrs.get("id") for attrs in seen.all("div") if "popover" in attrs}
    terms = [attrs for attrs in seen.all("button") if attrs.get("class") == "term"]
    assert len(terms) >= 10
    assert all(attrs["popovertarget"] == attrs["aria-describedby"] in ids for attrs in terms)
    columns = [attrs for attrs in terms if attrs["popovertarget"].startswith("scans-t")]
    assert len(columns) == 7, "those of the table of scans, too"
