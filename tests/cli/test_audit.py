"""The verb `audit` with a network small enough to be seen through."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from medrecon.cli.app import main
from medrecon.encoders import VGGEncoder

from .. import audit_cohort
from ..audit_cohort import write_cohort
from .conftest import Run

SMALL = ("--size", "16", "--spacing", "4")


@pytest.fixture
def run(medrecon: Run, tiny_bundle: Path) -> Run:
    """Runs `medrecon audit ... --bundle tiny`: exit code, stdout, stderr."""
    return lambda *words: medrecon("audit", *words, *SMALL, "--bundle", tiny_bundle, "--device", "cpu")


def test_a_cohort_is_audited_and_shuffled_patients_come_out_at_chance(run: Run, tmp_path: Path) -> None:
    scans = write_cohort(tmp_path / "scans", 8)
    code, out, err = run(scans, tmp_path / "out", "--patients", "sub-*", "--views", "noise", "--json")
    assert code == 0, err
    content = json.loads(out)
    assert (content["patients"], content["scans"]) == (8, 16)
    rows = {
        (row["condition"], row["layer"], row["matched"], row["defence"], row["rank"]): row
        for row in content["results"]
    }
    assert len(rows) == 2 * (1 + 2 * (3 + 4)) * 2
    for matched, layer in (("scan itself", ""), ("features", "coarse2"), ("reconstruction", "coarse2")):
        for condition in ("other scans", "noise"):
            row = rows[condition, layer, matched, "", 1]
            assert row["rate"] > 0.9, (condition, matched)
            assert row["above_chance"]
            assert row["low"] < row["rate"] <= row["high"]
            assert row["chance"] == 1 / 8
    for row in content["results"]:
        assert row["shuffled"] == pytest.approx(row["rank"] / 8, abs=0.09), row
    assert content["membership"]["rows"] == []
    assert "--members" in content["membership"]["said"]
    written = tmp_path / "out"
    assert json.loads((written / "metrics.json").read_text())["results"] == content["results"]
    with (written / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert (written / "figures" / "rank_other_scans.png").exists()
    everything = (written / "report.html").read_text() + (written / "metrics.json").read_text()
    assert "sub-" not in everything, "codes, no names"
    assert (tmp_path / "out.sources.csv").exists()


def test_scans_of_noise_find_nobody(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_cohort, "anatomy", lambda patient: np.zeros((16,) * 3))
    scans = write_cohort(tmp_path / "scans", 12)
    code, out, _ = run(scans, tmp_path / "out", "--patients", "sub-*", "--defences", "none", "--json")
    assert code == 0
    first = [row for row in json.loads(out)["results"] if row["rank"] == 1]
    assert not any(row["above_chance"] for row in first), first
    assert "no better than chance" in (tmp_path / "out" / "report.html").read_text()


def test_people_get_a_table(run: Run, tmp_path: Path) -> None:
    scans = write_cohort(tmp_path / "scans", 3)
    members = tmp_path / "members.txt"
    members.write_text("sub-0*\n")
    code, out, err = run(
        scans, tmp_path / "out", "--patients", "sub-*", "--ranks", "1", "--members", members, "--face", "auto"
    )
    assert code == 0, err
    assert "6 scans of 3 patients" in out
    assert "membership by coarse4: AUC" in out
    assert "face, defaced head, coarse2: surface Dice 0.00" in out


@pytest.mark.parametrize(
    ("patients", "scans", "more", "code", "said"),
    [
        (3, 2, (), 3, "too few patients for rank 5: there are 3"),
        (1, 4, ("--ranks", "1"), 3, "too few patients for rank 1: there are 1"),
        (6, 1, (), 3, "nobody has a second scan"),
        (6, 2, ("--layers", "coarse3"), 4, "coarse3"),
        (6, 2, ("--views", "blur"), 2, "'blur' is no second view"),
        (6, 2, ("--ranks", "0"), 2, "--ranks '0'"),
        (6, 2, ("--match", "cosine"), 2, "--match 'cosine'"),
        (6, 2, ("--defences", "bits:0"), 2, "'bits:0' is no defence"),
        (6, 2, ("--members", "provenance"), 4, "does not say which scans"),
        (6, 2, ("--face", "nothing.nii"), 3, "nothing.nii"),
    ],
)
def test_what_has_no_answer_is_refused_in_one_line_and_leaves_nothing(
    patients: int, scans: int, more: tuple[str, ...], code: int, said: str, run: Run, tmp_path: Path
) -> None:
    root = write_cohort(tmp_path / "scans", patients, scans)
    ended, out, err = run(root, tmp_path / "out", "--patients", "sub-*", *more)
    assert (ended, out) == (code, "")
    lines = [line for line in err.splitlines() if "loading" not in line]
    assert len(lines) == 1, err
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_patients_are_not_guessed(run: Run, tmp_path: Path) -> None:
    ended, _, err = run(write_cohort(tmp_path / "scans", 6), tmp_path / "out")
    assert ended == 3
    assert "do not say whose they are" in err


def test_made_views_stand_in_where_nobody_has_a_second_scan(run: Run, tmp_path: Path) -> None:
    scans = write_cohort(tmp_path / "scans", 6, 1)
    code, out, _ = run(scans, tmp_path / "out", "--patients", "sub-*", "--views", "shift", "--json")
    assert code == 0
    assert [each["made"] for each in json.loads(out)["conditions"]] == [True]
    assert "Made, not measured" in (tmp_path / "out" / "report.html").read_text()


def test_features_of_other_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decoders that were trained for other weights would make pictures of nothing."""
    root = write_cohort(tmp_path / "scans", 6)
    weights = tmp_path / "other.safetensors"
    save_file(VGGEncoder().state_dict(), weights)
    command = ["audit", str(root), str(tmp_path / "out"), "--patients", "sub-*", *SMALL]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--bundle", "frozen_encoder_inversion", "--weights", str(weights), "--device", "cpu"])
    assert ended.value.code == 4
    said = [line for line in capsys.readouterr().err.splitlines() if "loading" not in line]
    assert len(said) == 1
    assert "other weights than those that the bundle's decoders were trained for" in said[0]
    assert not (tmp_path / "out").exists()
