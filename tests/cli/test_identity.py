"""Markers in every text of the headers and in every name of the sources: no output of any verb holds one."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.cli.app import main
from medrecon.io.files.sources import sources_path

from ..conftest import write_nifti
from ..markers import MARKS, NAME, found_below, found_in, mark, uids

Make = Callable[..., np.ndarray]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def marks(sources: Path) -> tuple[str, ...]:
    """The markers, with the UIDs of the series."""
    return (*MARKS, *uids(sources))


def test_the_search_finds_a_marker_wherever_it_hides(tmp_path: Path) -> None:
    """Else all that follows would prove nothing."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Data/a.nii.gz", gzip.compress(b"...Qwixel..."))
    hidden = {
        "plain": NAME.encode(),
        "latin": NAME.encode("latin-1"),
        "folded": b"ZORGBLATT",
        "gz": gzip.compress(b"x" + NAME.encode()),
        "zip": packed.getvalue(),
        "base64": b"data:text/plain;base64," + base64.b64encode(b"a longer text with Qwixel in it"),
        "gz in base64": b"src='" + base64.b64encode(gzip.compress(b"0815-4711 " * 20)),
        "json": json.dumps({"a": NAME}).encode(),
        "url": b"href='Z%F6rgblatt'",
        "utf-16": "Qwixel".encode("utf-16-le"),
    }
    for name, data in hidden.items():
        assert found_in(data, name, MARKS), name
    assert not found_in(b"nothing of the kind" * 10, "none", MARKS)


@pytest.mark.parametrize("how", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("scans", []),
        ("reconstruct", ["--layers", "level3,input", "--format", "nifti", "--hu", "--accept", "units"]),
        ("reconstruct", ["--layers", "level3", "--format", "nifti", "--dry-run"]),
        ("encode", ["--layers", "level4", "--dtype", "int8"]),
    ],
    ids=["scans", "reconstruct", "dry-run", "encode"],
)
def test_verbs_over_many_scans(
    verb: str,
    words: list[str],
    how: list[str],
    run: Run,
    sources: Path,
    marks: tuple[str, ...],
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    places = [sources] if verb == "scans" else [sources, output]
    words = [word for word in words if word not in ("--hu", "--accept", "units")]
    code, out, err = run(verb, *places, *words, *how)
    assert code == 0, err
    assert found_in((out + err).encode(), verb, marks) == []
    if "--dry-run" in words or verb == "scans":
        return
    assert len(list(output.iterdir())) >= 4
    assert found_below(output, marks) == []
    table = sources_path(output)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert found_in(table.read_bytes(), "table", ("zörgblatt",)), "the table that resolves the codes does not"


def test_series_side_by_side(
    run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path, make_ct: Make
) -> None:
    (folder,) = {path.parent for path in sources.rglob("*.dcm")}
    make_ct(tmp_path / "more", seed=5)
    mixed = folder.rename(tmp_path / "mixed")
    for path in (tmp_path / "more").iterdir():
        mark(path)
        path.rename(mixed / f"b{path.name}")
    for verb in (["reconstruct", mixed, tmp_path / "out"], ["compare", mixed, mixed]):
        code, out, err = run(*verb)
        assert code == 3
        assert found_in((out + err).encode(), str(verb[0]), marks) == [], err


def test_compare(run: Run, sources: Path, marks: tuple[str, ...]) -> None:
    nifti, series = next(sources.glob("*.nii.gz")), next(sources.rglob("*.dcm")).parent
    for words in (["compare", series, series, "--json"], ["compare", nifti, nifti]):
        code, out, err = run(*words)
        assert code == 0, err
        assert found_in((out + err).encode(), "compare", marks) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["atlas", "atlas of one", "invert"])
def test_atlas_and_invert(verb: str, run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path) -> None:
    output = tmp_path / "out"
    words: list[object] = {
        "atlas": [sources, output, "--layers", "level4"],
        "atlas of one": [next(sources.glob("*.nii.gz")), output, "--layers", "level4", "--json"],
        "invert": [next(sources.rglob("*.dcm")).parent, output, "--encoder", "resnet18", "--layers", "layer1",
                   "--steps", "1", "--slices", "2:4", "--format", "nifti"],
    }[verb]  # fmt: skip
    code, out, err = run(verb.split()[0], *words)
    assert code == 0, err
    assert found_in((out + err).encode(), verb, marks) == []
    assert output.is_dir()
    assert found_below(output, marks) == []


@pytest.mark.parametrize("how", [[], ["--json"]], ids=["text", "json"])
def test_features_and_what_is_decoded(
    how: list[str], run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path, tiny_bundle: Path
) -> None:
    """Features are handed on; who decodes them gets a volume, or a series derived from its source."""
    series = next(sources.rglob("*.dcm")).parent
    features = tmp_path / "f.safetensors"
    assert run("encode", series, features, "-l", "coarse2", "--bundle", tiny_bundle)[0] == 0
    for output, words in ((tmp_path / "d.nii.gz", []), (tmp_path / "derived", ["--source", series])):
        code, out, err = run("decode", features, output, "--bundle", tiny_bundle, *words, *how)
        assert code == 0, err
        assert found_in((out + err).encode(), "decode", marks) == []
    for path in (features, tmp_path / "d.nii.gz"):
        assert found_in(path.read_bytes(), path.name, marks) == []
    for path in (tmp_path / "derived").iterdir():
        assert found_in(path.name.encode(), "name", marks) == []
        assert found_in(path.read_bytes(), path.name, MARKS) != [], "its patient is the source's"


def test_from_within_slicer(
    run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path, tiny_bundle: Path
) -> None:
    output = tmp_path / "out.nii.gz"
    words = ["--layers", "coarse2", "--bundle", tiny_bundle]
    for ending in ("nrrd", "mha"):
        code, out, err = run("slicer", sources / f"{NAME}-cq77xz.{ending}", output, *words)
        assert code == 0, err
        assert found_in((out + err).encode(), "slicer", marks) == []
        assert found_in(output.read_bytes(), "slicer", marks) == []


@pytest.mark.usefixtures("coarse_pictures")
def test_what_takes_no_scan_looks_at_none(
    run: Run, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    monkeypatch.chdir(sources)
    sample = tmp_path / "samples"
    write_nifti(sample / "mr_small.nii.gz", (30, 28, 26))
    monkeypatch.setattr("medrecon.cli.demo._PLACES", (sample,))
    for words in (
        ["demo", tmp_path / "demo", "--bundle", tiny_bundle],
        ["layers", "--json"],
        ["slicer", "--xml"],
        ["slicer", "--install", tmp_path / "modules"],
    ):
        code, out, err = run(*words)
        assert code == 0, err
        assert found_in((out + err).encode(), str(words[0]), MARKS) == []
    for folder in ("demo", "modules"):
        assert found_below(tmp_path / folder, MARKS) == []


@pytest.mark.slow
def test_a_cohort(run: Run, sources: Path, marks: tuple[str, ...], tmp_path: Path) -> None:
    (sources / f"{NAME}_gap.nii.gz").write_bytes(b"broken")
    code, out, err = run(
        "cohort", sources, tmp_path / "out", "-l", "level4", "--workers", "1", "--format", "nifti", "--json"
    )
    assert code == 8, err
    assert found_in((out + err).encode(), "cohort", marks) == []
    assert found_below(tmp_path / "out", marks) == []
    with (tmp_path / "out" / "results.csv").open() as table:
        workers = {row["worker"] for row in csv.DictReader(table)}
    assert all(re.fullmatch(r"[0-9a-f]{8}:[0-9]+", worker) for worker in workers), "no name of a machine"
    assert stat.S_IMODE(sources_path(tmp_path / "out").stat().st_mode) == 0o600


def test_names_where_the_user_asks_for_them(run: Run, sources: Path, tmp_path: Path) -> None:
    code, out, _ = run("scans", sources, "--names-from-source", "--json")
    assert code == 0
    assert found_in(out.encode(), "scans", ("zörgblatt",))
    assert run("encode", sources, tmp_path / "out", "-l", "level4", "--names-from-source")[0] == 0
    assert any("Qwixel" in path.name for path in (tmp_path / "out").iterdir())
    assert not sources_path(tmp_path / "out").exists()
