"""The page says what was measured, is whole and valid, and lets nothing in or out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest

from medrecon.errors import OutputError, UsageError
from medrecon.report.page import write_page

sys.path.insert(0, str(Path(__file__).parent))
import made


class Seen(HTMLParser):
    """What a parser of HTML finds."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.words += " "
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        self.text.setdefault(inside, []).append(data)
        if inside not in ("script", "style"):
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def parse(page: Path) -> Seen:
    seen = Seen()
    seen.feed(page.read_text(encoding="utf-8"))
    return seen


@pytest.fixture(autouse=True, scope="module")
def coarse() -> Iterator[None]:
    """Nobody looks at the pixels of the figures here, most of whose time goes into PNG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medrecon.report.style.DPI", 40)
        yield


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = made.scan()
    return write_page(tmp_path_factory.mktemp("atlas") / "report.html", scores, made.volumes(scores))


@pytest.fixture(scope="module")
def seen(page: Path) -> Seen:
    return parse(page)


def data(page: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the viewer is given: its facts, and the stored values of each part of its volumes."""
    text = page.read_text(encoding="utf-8")
    facts = re.search(r'id="viewer-facts">(.*?)</script>', text)
    inlined = re.findall(r'id="volume-\d+">([A-Za-z0-9+/=]+)</script>', text)
    values = []
    for each in inlined:
        low, high = np.frombuffer(gzip.decompress(base64.b64decode(each)), np.uint8).reshape(2, -1)
        values.append(np.cumsum(low + 256 * high.astype(np.int64)).astype(np.uint16).view(np.int16))
    return json.loads(facts.group(1)) if facts else {}, values


def volume(
    found: tuple[dict[str, Any], list[np.ndarray]], entry: dict[str, Any], part: int = 0
) -> np.ndarray:
    """A part of a volume in source units, its axes running left, posterior, superior."""
    facts, values = found
    zero, step = entry["coding"]
    x, y, z = facts["parts"][part]["shape"]
    return values[entry["data"][part]].reshape(z, y, x).T * step + zero


def test_it_is_valid_html(page: Path) -> None:
    parser = html5lib.HTMLParser(strict=False)
    parser.parse(page.read_text(encoding="utf-8"))
    assert [(at, kind) for at, kind, _ in parser.errors] == []


def test_it_can_be_walked_without_eyes(seen: Seen) -> None:
    names = [name for name, _ in seen.tags]
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert names.count(landmark) == 1
    assert seen.all("html")[0]["lang"] == "en"
    assert all("alt" in image for image in seen.all("img"))
    drawn = [svg for svg in seen.all("svg") if svg.get("class") == "chart"]
    ids = {attrs["id"] for _, attrs in seen.tags if attrs.get("id")}
    assert len(drawn) == 4
    assert all(set(svg["aria-labelledby"].split()) <= ids and svg["role"] == "img" for svg in drawn)
    assert names.count("caption") == names.count("table") == 4
    terms = [attrs for attrs in seen.all("button") if attrs.get("class") == "term"]
    assert len(terms) > 20
    assert {attrs["popovertarget"] for attrs in terms} <= ids, "each is explained"
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in seen.all("th"))
    assert seen.all("a")[0]["href"] == "#summary"
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(ids) == sum(1 for _, attrs in seen.tags if attrs.get("id")), "ids are unique"
    targets = {attrs["href"][1:] for attrs in seen.all("a") if (attrs["href"] or "").startswith("#")}
    assert targets <= ids


def test_scores_stand_above_their_controls(seen: Seen) -> None:
    rows = " ".join(seen.words.split())
    assert (
        "level1 20.0 12.3 23.4 −1.3 41.0 0.912 0.950 0.080 0.200 0.800 0.400 identity 0.0 ∞ 1.000 linear code"
        in rows
    )
    assert "12,345 voxels" in rows
    assert "Keeps as much as JPEG 2000 at 0.11 bits per voxel (its own features take 1.5)." in rows
    assert "Fine detail is gone beyond 0.15 lp/mm (structures thinner than 3.3 mm)." in rows
    assert "That is 1.2 dB better than a linear code of as many values." in rows
    assert "holds 88 % of voxels" in rows
    assert "Not for diagnosis" in rows
    assert "weights sha256 8f8f" in rows


def test_the_slices_that_controls_were_measured_on_are_said(tmp_path: Path) -> None:
    scores = made.scan(facts={"model": "net", "controls_on": "slices 4 to 9 of 12"})
    words = parse(write_page(tmp_path / "p.html", scores, made.volumes(scores))).words
    assert "PSNR of each layer on slices 4 to 9 of 12, from shallow to deep" in words


def test_a_score_without_controls_is_not_shown(tmp_path: Path) -> None:
    scores = made.scan(made.layer("level1", 41.0), made.layer("bare", 77.7, controls=(), mae=66.6))
    words = parse(write_page(tmp_path / "p.html", scores, made.volumes(scores))).words
    assert "Left out for that reason: bare" in words
    assert "77.7" not in words
    assert "66.6" not in words
    drawn = (tmp_path / "figures" / "slices_axial.svg").read_text()
    assert "<!-- 41.0 dB" in drawn
    assert "<!-- 77.7 dB" not in drawn


def test_nothing_is_asked_for_from_outside(page: Path, seen: Seen) -> None:
    for _, attrs in seen.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            value = attrs.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), value
        assert "style" not in attrs, "the policy forbids it"
        assert not any(name.startswith("on") for name in attrs)
    assert "@import" not in page.read_text()
    assert not re.search(r"url\((?!#)", "".join(seen.text["style"]))


def test_the_policy_allows_its_own_scripts_and_no_others(page: Path, seen: Seen) -> None:
    policy = next(m["content"] for m in seen.all("meta") if m.get("http-equiv"))
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == "'none'"
    assert rules["img-src"] == "data:"
    text = page.read_bytes()
    scripts = re.findall(rb"<script>(.*?)</script>", text, re.S)
    styles = re.findall(rb"<style>(.*?)</style>", text.partition(b"</head>")[0], re.S)
    assert (len(scripts), len(styles)) == (2, 1), "enlarging and the viewer"
    assert set(rules["script-src"].split()) == {hash_of(s) for s in scripts}
    assert rules["style-src"] == hash_of(styles[0])
    assert text.index(b"Content-Security-Policy") < 300, "before anything that it must hold for"


def hash_of(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"


def test_hostile_texts_are_harmless(tmp_path: Path) -> None:
    bad = made.HOSTILE
    scores = made.scan(
        made.layer(bad, regions={bad: made.RegionError(1, 1.0, 1.0, 1.0)}, codecs={bad: 1.0}),
        made.layer("level2"),
        label=bad,
        modality=bad,
        units=bad,
        facts={bad: bad},
        warnings=(bad, "x" * 9000),
        codec_curves={bad: ((0.1, 20.0), (1.0, 30.0))},
        key=bad,
    )
    page = write_page(tmp_path / "p.html", scores, made.volumes(scores))
    text = page.read_text(encoding="utf-8")
    seen = parse(page)
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert not [image for image in seen.all("img") if image.get("src") == "x"]
    assert len(seen.all("script")) == 2 + 1 + 1 + 2 + 2, "code, facts, source, reconstructions, maps"
    for char in "\u202e\u2028\x1b":
        assert char not in text
    assert "{{7*7}}" in seen.words, "shown as it is, not worked out"
    assert "49" not in parse_title(text)
    assert "x" * 2500 not in text
    parser = html5lib.HTMLParser()
    parser.parse(text)
    assert parser.errors == []
    assert data(page)[0]["layers"][0]["name"].startswith("<img src=x")  # JSON gives it back as data


def parse_title(text: str) -> str:
    found = re.search("<title>(.*?)</title>", text)
    return found.group(1) if found else ""


def test_volumes_are_the_scan(page: Path) -> None:
    found = facts, _ = data(page)
    whole = made.volumes()
    assert facts["units"] == "HU"
    assert [part["step"] for part in facts["parts"]] == [[1, 1, 1]]
    source = volume(found, facts["source"])
    corner = np.linalg.inv(made.AFFINE) @ np.array(facts["affine"]) @ [0, 0, 0, 1]
    start = np.rint(corner[:3]).astype(int)
    np.testing.assert_allclose(corner[:3], start, atol=1e-9)
    part = tuple(slice(a, a + n) for a, n in zip(start, source.shape, strict=True))
    np.testing.assert_array_equal(source, whole.source[part])
    result = volume(found, facts["layers"][0]["reconstruction"])
    np.testing.assert_allclose(result, whole.reconstructions["level1"][part], atol=0.51)
    unsure = volume(found, facts["layers"][0]["uncertainty"])
    map_ = whole.uncertainty["level1"][part]
    np.testing.assert_allclose(unsure, map_, atol=map_.max() / 490)
    assert np.all(np.abs(np.array(facts["start"]) / source.shape - 0.5) < 0.1)


@pytest.mark.usefixtures("without_figures")
def test_it_opens_at_the_mask(tmp_path: Path) -> None:
    volumes = made.volumes()
    volumes.mask = np.zeros(made.SHAPE, np.uint8)
    volumes.mask[24:29, 10:13, 7] = 1
    found = facts, _ = data(write_page(tmp_path / "p.html", made.scan(), volumes))
    at = np.linalg.inv(made.AFFINE) @ np.array(facts["affine"]) @ [*facts["start"], 1]
    np.testing.assert_allclose(at[:3], [26, 11, 7], atol=1e-9)
    assert volume(found, facts["mask"]).sum() == volumes.mask.sum()


@pytest.mark.usefixtures("without_figures")
def test_the_page_stays_under_its_cap_and_says_how(tmp_path: Path) -> None:
    scores = made.scan(shape=(96, 80, 40))
    volumes = made.volumes(scores, (96, 80, 40))
    full = write_page(tmp_path / "full.html", scores, volumes)
    bare = write_page(tmp_path / "bare.html", scores, volumes, viewer=False)
    cap = full.stat().st_size - 250_000
    small = write_page(tmp_path / "small.html", scores, volumes, most_bytes=cap)
    assert bare.stat().st_size < small.stat().st_size <= cap
    assert "every voxel of the body" in parse(full).words
    said = r"every 2nd voxel from right to left.*not averaged; every voxel in the three planes"
    assert re.search(said, parse(small).words)
    found = facts, _ = data(small)
    whole = volume(data(full), data(full)[0]["source"])
    assert facts["parts"][0]["step"] != [1, 1, 1]
    assert len(facts["parts"]) == 5, "all of it thinned, a box, three planes"
    for number, part in enumerate(facts["parts"]):
        each = zip(part["origin"], part["step"], part["shape"], strict=True)
        where = tuple(slice(o, o + s * n, s) for o, s, n in each)
        np.testing.assert_array_equal(volume(found, facts["source"], number), whole[where])
    none = write_page(tmp_path / "none.html", scores, volumes, most_bytes=bare.stat().st_size + 9000)
    assert none.stat().st_size <= bare.stat().st_size + 9000
    assert "There is no viewer" in parse(none).words
    assert not re.search("viewer-facts", none.read_text())
    with pytest.raises(UsageError, match="does not fit"):
        write_page(tmp_path / "never.html", scores, volumes, most_bytes=20_000)
    assert not (tmp_path / "never.html").exists()


def test_figures_lie_beside_the_page(page: Path) -> None:
    found = {p.name for p in (page.parent / "figures").iterdir()}
    names = ("depth", "rate", "histogram", "spectrum", "slices_axial", "slices_coronal", "slices_sagittal")
    assert found == {f"{name}.{end}" for name in names for end in ("png", "svg")}
    assert {p.name for p in page.parent.iterdir()} == {"report.html", "figures"}


def test_numbers_that_are_none(tmp_path: Path) -> None:
    empty = replace(
        made.layer("image", math.inf, mae=0.0, rmse=0.0, ms_ssim=math.nan),
        channels=None,
        stride=None,
        values_per_voxel=None,
        bits_per_voxel=None,
        consistency=None,
        coverage=None,
        interval=None,
        codecs={},
        regions={},
        spectrum=made.Spectrum((), (), None),
    )
    scores = made.scan(empty, units="", modality="", codec_curves={}, facts={}, warnings=())
    volumes = made.volumes(scores)
    volumes.reconstructions = {"image": volumes.source.copy()}
    volumes.uncertainty = {}
    seen = parse(write_page(tmp_path / "p.html", scores, volumes))
    assert "nothing is lost" in seen.words
    assert "nan" not in seen.words.lower().replace("nance", "")
    assert "To be read with care" not in seen.words
    assert "Regions" not in seen.words


def test_many_layers_and_none(tmp_path: Path) -> None:
    scores = made.scan(*(made.layer(f"level{k}+level{k + 1}", 40.0 - k) for k in range(9)))
    write_page(tmp_path / "many.html", scores, made.volumes(scores), viewer=False)
    nothing = replace(scores, layers=())
    words = parse(write_page(tmp_path / "none.html", nothing, made.volumes(nothing))).words
    assert "No layer was measured beside controls" in words


def test_wrong_shapes_and_places_are_refused(tmp_path: Path) -> None:
    volumes = made.volumes()
    volumes.reconstructions["level1"] = volumes.source[1:]
    with pytest.raises(UsageError, match="level1 has shape"):
        write_page(tmp_path / "p.html", made.scan(), volumes)
    (tmp_path / "file").write_text("")
    small = (8, 8, 4)
    scores = made.scan(shape=small)
    with pytest.raises(OutputError):
        write_page(tmp_path / "file" / "p.html", scores, made.volumes(scores, small), viewer=False)


@pytest.mark.usefixtures("without_figures")
def test_equal_scores_are_equal_pages(tmp_path: Path, page: Path) -> None:
    again = write_page(tmp_path / "report.html", made.scan(), made.volumes())
    assert again.read_bytes() == page.read_bytes()
