"""The verb `cohort`: what it refuses before any worker starts, and how it tells what came of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.cohort.progress import Tally
from medrecon.cohort.run import Summary
from medrecon.cohort.studies import Plan

from .conftest import Run

Make = Callable[..., np.ndarray]


@pytest.fixture
def run(medrecon: Run, tiny_bundle: Path, tmp_path: Path, make_nifti: Make) -> Run:
    """Runs `medrecon cohort in out --bundle tiny ...`: exit code, stdout, stderr."""
    make_nifti(tmp_path / "in" / "a.nii.gz")

    places = (tmp_path / "in", tmp_path / "out", "--bundle", tiny_bundle, "-d", "cpu")
    return lambda *words, layers="coarse2": medrecon("cohort", *places, "-l", layers, *words)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, object]]], None]:
    """Lets the run end with these rows, without workers."""

    def end(rows: list[dict[str, object]]) -> None:
        def pretend(plan: Plan, output: Path, *_: object, **__: object) -> Summary:
            tally = Tally(len(rows))
            for row in rows:
                tally.add(row)
            return Summary(tuple(rows), tally, (Path(output) / "results.csv",), 61.0)

        monkeypatch.setattr("medrecon.cohort.run.run_cohort", pretend)

    return end


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--cluster", "slrum"], 2, "did you mean 'slurm'"),
        (["--nodes", "2"], 2, "need a --cluster"),
        (["--cluster-option", "partition=x"], 2, "need a --cluster"),
        (["--cluster", "kubernetes", "--cluster-option", "partition"], 2, "NAME=VALUE"),
        (["--gpus", "1", "-d", "auto"], 2, "there is none here"),
        (["--workers", "0"], 2, "--workers"),
        (["--bundle", "nonesuch"], 4, "no such bundle"),
        (["--layers", "coarse3"], 4, "no layer 'coarse3'"),
    ],
)
def test_refused_before_anything_starts(
    run: Run, tmp_path: Path, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("medrecon:")]) == 1
    assert not (tmp_path / "out").exists()


def test_without_parsl_it_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parsl", None)
    code, _, err = run()
    assert code == 2
    assert "pip install 'medrecon[cohort]'" in err


def test_a_folder_of_something_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("mine")
    code, _, err = run()
    assert code == 5
    assert "holds something else" in err
    (tmp_path / "out" / "cohort.json").write_text('{"fingerprint": "of other settings"}')
    code, _, err = run()
    assert code == 5
    assert "--overwrite" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cohort.json", "thesis.docx"]


def test_no_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in" / "a.nii.gz").unlink()
    code, _, err = run("--json")
    assert code == 3
    assert "names no study" in err


FAILED = {"study": "b", "status": "failed", "exit_code": 3, "reason": "a gap"}


def test_all_went_well(run: Run, ended: Callable) -> None:
    ended([{"study": "a", "status": "done"}, {"study": "b", "status": "done", "kept": True}])
    code, out, _ = run()
    assert code == 0
    assert "2 of 2 studies done (1 of them by an earlier run), 0 failed, in 1:01" in out


def test_some_failed(run: Run, ended: Callable) -> None:
    ended([{"study": "a", "status": "done"}, FAILED])
    code, out, _ = run()
    assert code == 8
    assert "a gap" in out
    data = json.loads(run("--json")[1])
    assert (data["studies"], data["done"], data["failed"]) == (2, 1, [FAILED])


def test_none_went_well(run: Run, ended: Callable) -> None:
    ended([FAILED])
    assert run()[0] == 3
    ended([{**FAILED, "status": "partial"}])
    assert run()[0] == 8


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    assert "a.nii.gz" not in run("--dry-run", "--json")[1]
    code, out, _ = run("--dry-run", "--json", "--names-from-source")
    assert code == 0
    data = json.loads(out)
    assert ([Path(study["path"]).name for study in data["studies"]], data["layers"]) == (
        ["a.nii.gz"],
        ["coarse2"],
    )
    code, out, _ = run("--dry-run")
    assert code == 0
    assert "nothing was written" in out
    assert not (tmp_path / "out").exists()
    assert run("--dry-run", layers="coarse3")[0] == 4
