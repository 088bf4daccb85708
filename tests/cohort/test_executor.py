"""Real workers of Parsl on this machine: bad studies, a worker that dies, a run that is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from medrecon.cli.app import main
from medrecon.cli.faults import PARTIAL, fault_of
from medrecon.cohort.run import run_cohort
from medrecon.cohort.settings import Settings
from medrecon.cohort.studies import plan_studies
from medrecon.compute.clusters import Place

Make = Callable[..., np.ndarray]
pytestmark = pytest.mark.usefixtures("workers_find_the_tests")


def deaths(bundle: Path, slices: int, times: int, marks: Path) -> None:
    """Let the bundle's inferer kill its worker at studies of that many slices."""
    inferer(bundle, f"Dies\n  slices: {slices}\n  times: {times}\n  marks: {marks}")


def inferer(bundle: Path, other: str) -> None:
    """Another inferer of tiny_parts for the bundle, with its arguments."""
    config = bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("tiny_parts.WholeInferer", f"tiny_parts.{other}"))


def command(tmp_path: Path, bundle: Path, *more: object, output: str = "out") -> list[str]:
    options = ["--bundle", bundle, "-l", "coarse2", "--device", "cpu", "--workers", 2, "--json", *more]
    return ["cohort", str(tmp_path / "in"), str(tmp_path / output), *map(str, options)]


def table_of(folder: Path) -> dict[str, dict[str, str]]:
    rows = rows_of(folder / "results.csv")
    assert len({row["study"] for row in rows}) == len(rows)
    return {sources_of(folder)[row["study"]]: row for row in rows}


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sources_of(folder: Path) -> dict[str, str]:
    """Study -> what the input calls it: the table beside the output, for its owner alone."""
    table = folder.with_name(f"{folder.name}.sources.csv")
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    return {row["study"]: row["source"] for row in rows_of(table)}


def folders(output: Path) -> set[str]:
    return {path.name for path in output.iterdir() if path.is_dir()}


@pytest.mark.slow
def test_bad_studies_and_a_worker_that_dies(
    tmp_path: Path, tiny_bundle: Path, make_ct: Make, make_nifti: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run for all of it: starting workers takes seconds."""
    for number in range(4):
        make_nifti(tmp_path / "in" / f"good{number}.nii.gz", seed=number)
    make_ct(tmp_path / "in" / "series")
    make_nifti(tmp_path / "in" / "kills.nii.gz", (18, 16, 9))
    make_ct(tmp_path / "in" / "gap", leave_out=2, seed=5)
    (tmp_path / "in" / "empty.nii.gz").touch()
    output = tmp_path / "out 1"  # Parsl quotes no path
    deaths(tiny_bundle, 9, 1, tmp_path / "mark")
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path, tiny_bundle, output="out 1"))
    data = json.loads(capsys.readouterr().out)
    assert ended.value.code == PARTIAL
    assert (data["studies"], data["done"], data["kept"]) == (8, 6, 0)
    named = sources_of(output)
    assert {named[row["study"]]: row["exit_code"] for row in data["failed"]} == {"empty.nii.gz": 3, "gap": 3}
    rows = table_of(output)
    assert len(rows) == 8
    assert {name for name, row in rows.items() if row["status"] == "done"} == {
        "series", "kills.nii.gz", *(f"good{number}.nii.gz" for number in range(4))
    }  # fmt: skip
    assert {name: row["tries"] for name, row in rows.items() if row["tries"] != "1"} == {"kills.nii.gz": "2"}
    assert (tmp_path / "mark.0").exists()
    assert folders(output) == {row["study"] for row in rows.values() if row["status"] == "done"}
    assert len(list((output / rows["series"]["study"]).rglob("*.dcm"))) == 6
    assert sorted(p.name for p in (output).iterdir() if p.is_file()) == [
        "cohort.json",
        "results.csv",
    ]
    assert len({row["worker"] for row in rows.values()} - {""}) >= 2


@pytest.mark.slow
def test_a_study_that_always_kills_its_worker_is_given_up(
    tmp_path: Path, tiny_bundle: Path, make_nifti: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        make_nifti(tmp_path / "in" / f"good{number}.nii.gz", seed=number)
    make_nifti(tmp_path / "in" / "kills.nii.gz", (18, 16, 9))
    deaths(tiny_bundle, 9, 9, tmp_path / "mark")
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path, tiny_bundle, "--retries", 1))
    data = json.loads(capsys.readouterr().out)
    assert ended.value.code == PARTIAL
    (failed,) = data["failed"]
    assert (sources_of(tmp_path / "out")[failed["study"]], failed["exit_code"], failed["tries"]) == (
        "kills.nii.gz",
        6,
        2,
    )
    assert len(list(tmp_path.glob("mark.*"))) == 2
    assert data["done"] == 3


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, tiny_bundle: Path, make_nifti: Make) -> None:
    for number in range(12):
        make_nifti(tmp_path / "in" / f"s{number:02d}.nii.gz", seed=number)
    inferer(tiny_bundle, f"Waits\n  free: 5\n  marks: {tmp_path / 'marks'}")
    arguments = [sys.executable, "-m", "medrecon", *command(tmp_path, tiny_bundle)]
    run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    output = tmp_path / "out"
    wait_until(lambda: output.exists() and len(folders(output)) > 3, 600)
    children = psutil.Process(run.pid).children(recursive=True)
    workers = [int(p.name.rsplit("-", 1)[1]) for p in (output / ".medrecon-cohort" / "pulses").iterdir()]
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    wait_until(lambda: not any(map(psutil.pid_exists, workers)), 60)
    wait_until(lambda: not any(child.is_running() for child in children), 60)
    before = {path: path.stat().st_mtime_ns for path in output.glob("s*/study.json")}
    assert 3 < len(before) < 12
    (tmp_path / "marks.open").touch()
    again = subprocess.run(arguments, stdout=subprocess.PIPE, check=True)
    data = json.loads(again.stdout)
    assert (data["done"], data["kept"], data["made"]) == (12, len(before), 12 - len(before))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(folders(output)) == 12
    wait_until(lambda: not any(child.is_running() for child in children), 60)
    wait_until(lambda: not processes_of(tmp_path), 60)


@pytest.mark.slow
def test_a_lock_that_died_with_an_idle_worker_is_got_over(
    tmp_path: Path,
    tiny_bundle: Path,
    make_nifti: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that waits for work holds the queue's lock. Killed then, it leaves none for the others."""
    from medrecon.cohort import executor

    for number in range(4):
        make_nifti(tmp_path / "in" / f"s{number}.nii.gz", seed=number)
    make_nifti(tmp_path / "in" / "slow.nii.gz", (18, 16, 9))
    config = tiny_bundle / "configs" / "inference.yaml"
    sleeps = f"tiny_parts.Sleeps\n  slices: 9\n  mark: {tmp_path / 'mark'}"
    config.write_text(config.read_text().replace("tiny_parts.WholeInferer", sleeps))
    monkeypatch.setitem(executor.STUCK, True, 12.0)
    killed: list[int] = []
    look, start = executor._Watch.look, time.monotonic()

    def kill_both(watch: executor._Watch) -> None:
        assert time.monotonic() - start < 600, "stuck for good"
        if not killed and len(folders(tmp_path / "out")) == 5 and (tmp_path / "mark").exists():
            busy = int((tmp_path / "mark").read_text())
            time.sleep(1)
            workers = {int(name.rsplit("-", 1)[1]) for name in watch.lease.beats()}
            assert len(workers) == 2
            killed.extend([*(workers - {busy}), busy])
            for process in killed:
                os.kill(process, signal.SIGKILL)
        look(watch)

    monkeypatch.setattr(executor._Watch, "look", kill_both)
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path, tiny_bundle))
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["done"] == 5
    assert len(killed) == 2
    assert "no sign of life" in caplog.text


@pytest.mark.slow
def test_each_worker_is_pinned_to_one_gpu(
    tmp_path: Path, tiny_bundle: Path, settings: Settings, make_nifti: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the workers are told of GPUs; the work itself stays on the CPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    inferer(tiny_bundle, f"Meets\n  workers: 2\n  marks: {tmp_path / 'marks'}")
    for number in range(3):
        make_nifti(tmp_path / "in" / f"s{number}.nii.gz", seed=number)
    plan = plan_studies(tmp_path / "in", tmp_path / "out")
    place = Place(workers=2, accelerators=("3", "5"))
    summary = run_cohort(plan, tmp_path / "out", settings, place, fault_of)
    pinned = {row["worker"]: row["gpu"] for row in summary.rows}
    assert summary.failures == []
    assert sorted(pinned.values()) == ["3", "5"]


def processes_of(folder: Path) -> list[int]:
    """The engine's processes, which are no children of the run: they log in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(folder) in words and "worker_pool" in words:
            found.append(process.pid)
    return found


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
