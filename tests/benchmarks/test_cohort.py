"""The benchmark of many studies at toy size: what it kills, and what it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_nothing_is_lost_or_doubled(
    benchmark: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort.json"
    options = ["--studies", "28", "--parts", "1,2", "--work", str(tmp_path / "work"), "--json", str(out)]
    benchmark("cohort").main(options)
    assert "killed workers" in capsys.readouterr().out
    content = json.loads(out.read_text("utf-8"))
    for part in ("killed_workers", "killed_run"):
        found = content[part]
        assert (found["exit_code"], found["right"], found["reported"]) == (8, 24, 4)
        assert (found["lost"], found["doubled"], found["folders_match"]) == (0, 0, True)
        assert found["reported_are_the_bad"]
        assert found["compared_with_reconstruct"] == "2/2"
    assert content["killed_workers"]["workers_killed"] == 2
    assert content["killed_run"]["untouched"]
    assert content["killed_run"]["kept"] == content["killed_run"]["done_when_killed"]


@pytest.mark.slow
def test_a_long_run_is_watched(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    toy = ["--small", "8", "--size", "32", "32", "16", "--large", "2", "--large-size", "96", "96", "48"]
    benchmark("soak").main([*toy, "--json", str(out)])
    found = json.loads(out.read_text("utf-8"))
    assert (found["exit_code"], found["studies"], found["right"], found["lost"]) == (0, 10, 10, 0)
    assert min(found["open_files"]) > 2
    for kind in ("mib_at_work", "mib_after_small", "mib_after_large"):
        assert min(found[kind]) > 50, "a worker that holds torch"


def test_growth_and_open_files_are_seen(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    soak = benchmark("soak")
    lives = {1: [(0.0, 10, 600.0), (10.0, 14, 900.0)], 2: [(5.0, 11, 650.4), (9.0, 10, 640.0)]}
    assert soak.halves(lives) == {"open_files": [11, 14], "mib_at_work": [650, 900]}
    table = tmp_path / "out" / "results.csv"
    table.parent.mkdir()
    rows = [f"{n},done,{500 + n}" for n in range(12)]
    table.write_text("\n".join(["study,status,memory_mib", *rows, "12,failed,"]) + "\n", "utf-8")
    sources = [f"{n},s{n:04d}{'_large' * (n % 3 == 0)}.nii" for n in range(13)]
    (tmp_path / "out.sources.csv").write_text("\n".join(["study,source", *sources]) + "\n", "utf-8")
    assert soak.after_studies(table) == {"mib_after_small": [505, 511], "mib_after_large": [503, 509]}


def test_what_is_lost_or_doubled_is_counted(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("s0001.nii", "s0002.nii", "s0003.nii", "bad0.nii"):
        (source / name).touch()
    (output / "a").mkdir(parents=True)
    head = "study,status,tries,worker,memory_mib\n"
    (output / "results.csv").write_text(head + "a,done,1,w,1\na,done,2,w,3\nb,failed,1,,\n", "utf-8")
    (tmp_path / "out.sources.csv").write_text("study,source\na,s0001.nii\nb,s0002.nii\n", "utf-8")
    found = benchmark("cohort").check(source, output, 1)
    assert (found["right"], found["lost"], found["doubled"], found["tried_again"]) == (2, 2, 1, 1)
    assert not found["reported_are_the_bad"]
    assert (found["workers"], found["memory_mib"]) == (1, [1, 3])
    assert found["folders_match"]
    (output / "left_over").mkdir()
    assert not benchmark("cohort").check(source, output, 1)["folders_match"]
