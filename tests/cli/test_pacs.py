"""The verbs `pull`, `push` and `reconstruct pacs:...` against a small DICOMweb service."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")
pytest.importorskip("dicomweb_client", reason="the extra pacs is not installed")


from ..pacs.small_pacs import SmallPacs, serving
from .conftest import Run

Make = Callable[..., np.ndarray]
SECRETS = ("Doe", "ID-4711", "Chest")


@pytest.fixture
def pacs(tmp_path: Path, make_ct: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallPacs]:
    """A PACS called `a` that holds one CT of six slices, and a configuration that knows it."""
    make_ct(tmp_path / "ct")
    small = SmallPacs()
    small.add(tmp_path / "ct")
    with serving(small) as running:
        home = tmp_path / "home"
        (home / "medrecon").mkdir(parents=True)
        (home / "medrecon" / "pacs.toml").write_text(f'[a]\nurl = "{running.url}"\ntimeout = 2\n')
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield running


@pytest.fixture
def run(medrecon: Run) -> Run:
    return medrecon


@pytest.fixture
def reconstruct(run: Run, tiny_bundle: Path) -> Run:
    return lambda *words: run("reconstruct", *words, "--bundle", tiny_bundle, "--device", "cpu")


def uids(folder: Path) -> tuple[str, str]:
    header = dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID)


def series_of(pacs: SmallPacs) -> set[str]:
    return {str(header.SeriesInstanceUID) for header in pacs.headers()}


def test_the_list_says_what_is_there_without_names(pacs: SmallPacs, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("pull", "a", "--patient", "ID-4711", "--list")
    study, series = uids(tmp_path / "ct")
    assert code == 0
    assert study in out
    assert series in out
    assert not [secret for secret in SECRETS if secret in out]
    code, out, _ = run("pull", "a", "--patient", "ID-4711", "--list", "--json", "--names-from-source")
    (row,) = json.loads(out)["series"]
    assert (row["series_uid"], row["instances"], row["patient_id"]) == (series, 6, "ID-4711")
    assert not [path for path in pacs.requests if f"instances/{series}" in path], "nothing is fetched"


def test_pull_makes_a_copy_that_is_checked_and_named_without_identity(
    pacs: SmallPacs, run: Run, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    code, out, err = run("pull", "a", output, "--description", "chest*", "--json")
    assert (code, err) == (0, "")
    (series,) = json.loads(out)["series"]
    assert (series["instances"], series["fetched"]) == (6, 6)
    assert series["scans"][0]["shape"] == [20, 24, 6]
    assert Path(series["path"]).name == series["scans"][0]["label"]
    study, uid = uids(tmp_path / "ct")
    said = out + " ".join(str(path) for path in output.rglob("*"))
    assert not [secret for secret in (*SECRETS, study, uid) if secret in said]
    table = tmp_path / "out.sources.csv"
    assert uid in table.read_text()
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    before = table.read_text()
    code, out, _ = run("pull", f"pacs:a/{study}/{uid}", output, "--json")
    assert json.loads(out)["series"][0]["fetched"] == 0
    assert table.read_text() == before


def test_a_second_study_in_the_same_folder_keeps_the_first_in_the_record(
    pacs: SmallPacs, run: Run, tmp_path: Path, make_ct: Make
) -> None:
    make_ct(tmp_path / "ct2", seed=2)
    pacs.add(tmp_path / "ct2")
    for name in ("ct", "ct2"):
        assert run("pull", f"a/{uids(tmp_path / name)[0]}", tmp_path / "out")[0] == 0
    assert len((tmp_path / "out.sources.csv").read_text().splitlines()) == 3


def test_a_series_that_cannot_be_read_is_pulled_and_refused(
    pacs: SmallPacs, run: Run, tmp_path: Path
) -> None:
    gap = sorted(pacs.headers(), key=lambda header: int(header.InstanceNumber))[2]
    del pacs.held[str(gap.SOPInstanceUID)]
    code, _, err = run("pull", "a", tmp_path / "out", "--modality", "CT")
    assert code == 3
    assert "medrecon: " in err
    assert len(list(tmp_path.glob("out/*/*/*.dcm"))) == 5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pull", "b", "out"], 2, "no PACS is called 'b'"),
        (["pull", "a", "out"], 2, "nothing says which studies"),
        (["pull", "a", "--modality", "CT"], 2, "no folder is named"),
        (["pull", "a", "out", "--date", "yesterday"], 2, "no date"),
        (["pull", "a/1.2", "out", "--study", "1.3"], 2, "two UIDs"),
        (["pull", "a/1.2", "out"], 3, "nothing matches"),
        (["pull", "a", "out", "--patient", "ID-4711", "--via", "dimse"], 2, "has no host and port"),
        (["push", "ct"], 2, "missing argument"),
        (["push", "ct", "b"], 2, "no PACS is called 'b'"),
        (["push", "ct", "a/1.2"], 2, "names a study"),
        (["push", "nothing", "a"], 3, "cannot be opened"),
        (["push", "home", "a"], 3, "no DICOM file"),
        (["reconstruct", "pacs:a", "out"], 2, "names no study"),
        (["reconstruct", "pacs:a/1.2", "out"], 3, "no such study"),
        (["reconstruct", "ct", "pacs:a/1.2"], 2, "names a study"),
        (["reconstruct", "ct", "pacs:a", "--format", "nifti"], 2, "takes no nifti"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str],
    code: int,
    said: str,
    pacs: SmallPacs,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    got, out, err = run(*words)
    assert got == code
    assert said in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_server_that_does_not_take_it_is_exit_5_or_8(pacs: SmallPacs, run: Run, tmp_path: Path) -> None:
    first, *_ = pacs.held
    pacs.refused = {first}
    pacs.held.clear()
    code, out, err = run("push", tmp_path / "ct", "a", "--json")
    assert code == 8
    assert json.loads(out)["series"][0]["refused"][0]["reason"] == "out of resources (A700)"
    pacs.refused |= set(pacs.held)
    pacs.held.clear()
    code, _, err = run("push", tmp_path / "ct", "a")
    assert code == 5
    assert "all 6 instances are refused" in err


def test_three_in_one_and_the_same_again_changes_nothing(
    pacs: SmallPacs, reconstruct: Run, tmp_path: Path
) -> None:
    study, series = uids(tmp_path / "ct")
    code, out, err = reconstruct(f"pacs:a/{study}", "pacs:a", "--layers", "input,coarse2", "--json")
    assert code == 0, err
    derived = series_of(pacs) - {series}
    outputs = json.loads(out)["results"][0]["outputs"]
    assert set(outputs.values()) == {f"pacs:a/{study}/{uid}" for uid in derived}
    assert len(pacs.held) == 18
    assert not list((tmp_path / "cache").rglob("*.dcm"))
    held = dict(pacs.held)
    assert reconstruct(f"pacs:a/{study}", "pacs:a", "--layers", "input,coarse2")[0] == 0
    assert pacs.held == held
    identity = dcmread(next(tmp_path.glob("ct/*.dcm")), stop_before_pixels=True)
    assert {str(header.PatientName) for header in pacs.headers()} == {str(identity.PatientName)}


def test_from_a_pacs_to_a_folder_and_from_a_folder_to_a_pacs(
    pacs: SmallPacs, reconstruct: Run, tmp_path: Path
) -> None:
    study, series = uids(tmp_path / "ct")
    code, _, err = reconstruct(f"pacs:a/{study}/{series}", tmp_path / "out", "--layers", "coarse2")
    assert code == 0, err
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 6
    code, _, err = reconstruct(tmp_path / "ct", "pacs:a", "--layers", "coarse2", "--error-map")
    assert code == 0, err
    assert len(pacs.held) == 13


def test_what_was_pulled_stays_for_the_next_try_and_is_private(
    pacs: SmallPacs, reconstruct: Run, tmp_path: Path
) -> None:
    study, _ = uids(tmp_path / "ct")

    def refuse(path: str) -> None:
        pacs.faults = (
            {"broken"} if "instances?" in path and len(list(cache.rglob("derived/**/*.dcm"))) else set()
        )

    cache = tmp_path / "cache" / "medrecon" / "pacs"
    pacs.before = refuse
    code, _, err = reconstruct(f"pacs:a/{study}", "pacs:a", "--layers", "coarse2")
    assert code == 5
    assert "HTTP 500" in err
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert len(list(kept.rglob("source/**/*.dcm"))) == 6
    pacs.before = lambda path: None
    pacs.faults = set()
    pacs.requests.clear()
    assert reconstruct(f"pacs:a/{study}", "pacs:a", "--layers", "coarse2")[0] == 0
    fetched = [path for path in pacs.requests if "?" not in path and path != "POST"]
    assert len(fetched) == 1, "only the first instance, to see whose series it is"
    assert not kept.exists()


def test_the_environments_proxy_and_netrc_are_not_asked(
    pacs: SmallPacs, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setitem(os.environ, "NETRC", str(tmp_path / "netrc"))
    assert run("pull", "a", "--modality", "CT", "--list")[0] == 0


def test_push_without_identity(pacs: SmallPacs, run: Run, reconstruct: Run, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    pacs.held.clear()
    assert run("push", tmp_path / "ct", "a", "--deidentify", key, "--keep", "dates")[0] == 0
    assert run("deidentify", tmp_path / "ct", tmp_path / "copy", key, "--keep", "dates")[0] == 0
    headers = [dcmread(path, stop_before_pixels=True) for path in (tmp_path / "copy").rglob("*.dcm")]
    assert set(pacs.held) == {str(header.SOPInstanceUID) for header in headers}
    assert not [data for data in pacs.held.values() if b"Doe" in data or b"4711" in data]
    code, _, err = reconstruct(tmp_path / "ct", tmp_path / "out", "--layers", "coarse2", "--deidentify", key)
    assert code == 0, err
    derived = [path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")]
    assert len(derived) == 6
    assert not [data for data in derived if b"Doe" in data or b"4711" in data or b"1950" in data]
    code, _, err = run("push", tmp_path / "ct", "a", "--keep", "dates")
    assert code == 2
    assert "--keep is for --deidentify" in err


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"k" * 32)
    path.chmod(0o600)
    return path


def everything(folder: Path) -> bytes:
    """All names and bytes of a folder, hidden ones too."""
    found = sorted(folder.rglob("*")) if folder.exists() else []
    return b"".join(str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in found)


def test_pull_without_identity_equals_pull_and_deidentify(
    pacs: SmallPacs, run: Run, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for path in (tmp_path / "ct").iterdir():
        dataset = dcmread(path)
        dataset.BurnedInAnnotation = "YES"
        dataset.save_as(path)
    pacs.add(tmp_path / "ct")
    study, series = uids(tmp_path / "ct")
    output = tmp_path / "out"
    code, out, err = run("pull", f"a/{study}", output, "--deidentify", key, "--keep", "dates", "--json")
    assert code == 0, err
    assert [("burned-in text" in note, "a face" in note) for note in json.loads(out)["notes"]] == [
        (True, False),
        (False, True),
    ]
    (row,) = json.loads(out)["series"]
    assert (row["instances"], row["fetched"], row["scans"][0]["shape"]) == (6, 6, [20, 24, 6])
    assert row["series"] == row["scans"][0]["label"]
    assert not [secret for secret in (*SECRETS, study, series) if secret in out]
    secrets = [secret.encode() for secret in (*SECRETS[:2], study, series)]
    for place in (output, tmp_path / "home", tmp_path / "cache", tmp_path / "temporary"):
        assert not [secret for secret in secrets if secret in everything(place)]
    assert not (tmp_path / "out.sources.csv").exists(), "the table would join old UIDs and new ones"
    assert run("deidentify", tmp_path / "ct", tmp_path / "copy", key, "--keep", "dates")[0] == 0
    made = {path.name: path.read_bytes() for path in output.rglob("*.dcm")}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "copy").rglob("*.dcm")}


def test_the_same_pull_without_identity_fetches_nothing_and_another_keep_is_refused(
    pacs: SmallPacs, run: Run, key: Path, tmp_path: Path
) -> None:
    words = ("pull", "a", tmp_path / "out", "--modality", "CT", "--deidentify", key)
    assert run(*words)[0] == 0
    before = everything(tmp_path / "out")
    code, out, _ = run(*words, "--json")
    assert (code, json.loads(out)["series"][0]["fetched"]) == (0, 0)
    code, _, err = run(*words, "--keep", "patient")
    assert code == 5
    assert "made with another --keep" in err
    assert everything(tmp_path / "out") == before
    assert run(*words, "--keep", "patient", "--overwrite")[0] == 0
    (place,) = (tmp_path / "out").glob("*/*")
    assert {dcmread(path).PatientSex for path in place.iterdir()} == {"O"}
    assert run("pull", "a", tmp_path / "out", "--modality", "CT", "--list", "--deidentify", key)[0] == 2


def test_a_pull_without_identity_that_breaks_off_leaves_none_and_goes_on(
    pacs: SmallPacs, run: Run, key: Path, tmp_path: Path
) -> None:
    pacs.faults = {"vanish"}
    words = ("pull", "a", tmp_path / "out", "--modality", "CT", "--deidentify", key)
    assert run(*words)[0] == 3
    left = everything(tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.dcm"))) in range(1, 6)
    assert b"Doe" not in left
    assert b"4711" not in left
    pacs.faults = set()
    pacs.requests.clear()
    assert run(*words, "--json")[0] == 0
    assert len(list((tmp_path / "out").glob("study_*/CT_*/*.dcm"))) == 6
    assert not [path for path in pacs.requests if path.endswith("/series")]


def test_what_cannot_be_deidentified_is_not_there(
    pacs: SmallPacs, run: Run, key: Path, tmp_path: Path
) -> None:
    uid, data = next(iter(pacs.held.items()))
    header = dcmread(BytesIO(data))
    header.PixelData = header.PixelData[:100]
    stream = BytesIO()
    header.save_as(stream)
    pacs.held[uid] = stream.getvalue()
    code, _, err = run("pull", "a", tmp_path / "out", "--modality", "CT", "--deidentify", key)
    assert code == 3
    assert "cannot be read whole (ValueError), so not be de-identified" in err
    assert not [path for path in (tmp_path / "out").rglob("*.dcm") if b"Doe" in path.read_bytes()]
    assert not list((tmp_path / "out").glob("study_*/CT_*"))


def test_reports_are_left_out_of_a_pull_without_identity(
    pacs: SmallPacs, run: Run, key: Path, tmp_path: Path
) -> None:
    report = dcmread(next(tmp_path.glob("ct/*.dcm")))
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1"
    report.SeriesInstanceUID, report.Modality = "1.2.3", "SR"
    stream = BytesIO()
    report.save_as(stream)
    pacs.held["1.2.3.1"] = stream.getvalue()
    words = ("--deidentify", key, "--json")
    code, out, err = run("pull", "a", tmp_path / "out", "--patient", "ID-4711", *words)
    assert code == 0, err
    assert json.loads(out)["notes"][0] == "1 series without CT, MR or PET images are left out"
    assert len(json.loads(out)["series"]) == 1
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 6
    code, _, err = run("pull", "a/" + str(report.StudyInstanceUID) + "/1.2.3", tmp_path / "none", *words)
    assert code == 3
    assert "holds a CT, MR or PET image" in err
    assert not (tmp_path / "none").exists()
