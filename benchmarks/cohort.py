"""Many studies with medrecon cohort: nothing lost, nothing doubled, and what a second worker brings.

Generates small scans, and runs `medrecon cohort` on them as a user would:

1. all of them with four broken ones among them, while two workers are killed at work (kill -9);
2. the same into another folder, killed as a whole (kill -9 of the run) in the middle, and started again;
3. fewer and larger ones, with one worker and with two: the efficiency is half of the ratio of their rates;
4. with `--cluster slurm` (and its `--cluster-option`s) the first of these is also run there.

Each run is held against a run of `medrecon reconstruct` on one study in sixteen: the voxels must be equal.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from cohort_checks import MEDRECON, check
from cohort_studies import make_studies
from common import markdown, parser_for, write_json


def start(source: Path, output: Path, workers: int, more: list[str]) -> subprocess.Popen[str]:
    """A run in the background."""
    words = ["cohort", str(source), str(output), "-l", "level3", "--json", "-n", str(workers), *more]
    command = [*MEDRECON, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(run: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Its exit code and what it said."""
    out, _ = run.communicate()
    return run.returncode, json.loads(out) if out.strip() else {}


def done_in(output: Path) -> set[str]:
    """The studies whose folders are there."""
    return {path.parent.name for path in output.glob("*/study.json")}


def wait_for(output: Path, count: int, run: subprocess.Popen[str]) -> None:
    """Until so many are done."""
    while len(done_in(output)) < count:
        if run.poll() is not None:
            raise SystemExit(f"the run ended ({run.returncode}) before {count} studies were done")
        time.sleep(0.05)


def kill_a_worker(output: Path, killed: set[int]) -> int:
    """kill -9 of one that is at work now: its sign of life is the youngest."""
    while True:
        pulses = sorted((output / ".medrecon-cohort" / "pulses").iterdir(), key=lambda p: -p.stat().st_mtime)
        for pulse in pulses:
            process = int(pulse.name.rsplit("-", 1)[1])
            if process not in killed and psutil.pid_exists(process):
                os.kill(process, signal.SIGKILL)
                killed.add(process)
                return process
        time.sleep(0.05)


def killed_workers(work: Path, count: int, bad: int, more: list[str]) -> dict[str, Any]:
    """Part 1."""
    source, output = work / "small", work / "out_killed_workers"
    begun = time.perf_counter()
    run = start(source, output, 2, more)
    killed: set[int] = set()
    for part in (1, 2):
        wait_for(output, part * count // 3, run)
        kill_a_worker(output, killed)
    code, said = finish(run)
    return {
        "exit_code": code,
        "workers_killed": len(killed),
        "seconds": time.perf_counter() - begun,
        "studies_per_second": said.get("studies_per_second"),
        **check(source, output, bad),
    }


def killed_run(work: Path, count: int, bad: int, more: list[str]) -> dict[str, Any]:
    """Part 2."""
    source, output = work / "small", work / "out_killed_run"
    run = start(source, output, 2, more)
    wait_for(output, random.Random(0).randint(count // 3, 2 * count // 3), run)
    run.kill()
    run.communicate()
    time.sleep(5)  # its workers end within two seconds
    before = {name: (output / name / "study.json").stat().st_mtime_ns for name in done_in(output)}
    code, said = finish(start(source, output, 2, more))
    after = {name: (output / name / "study.json").stat().st_mtime_ns for name in before}
    return {
        "exit_code": code,
        "done_when_killed": len(before),
        "kept": said.get("kept"),
        "made_after": said.get("made"),
        "untouched": before == after,
        **check(source, output, bad),
    }


def on_slurm(work: Path, bad: int, cluster_options: Sequence[str]) -> dict[str, Any]:
    """Part 4."""
    source, output = work / "small", work / "out_slurm"
    more = ["--cluster", "slurm", "--device", "cpu"]
    more += [word for option in cluster_options for word in ("--cluster-option", option)]
    begun = time.perf_counter()
    code, said = finish(start(source, output, 2, more))
    return {
        "exit_code": code,
        "seconds": time.perf_counter() - begun,
        "studies_per_second": said.get("studies_per_second"),
        **check(source, output, bad),
    }


def efficiency(work: Path, repeats: int) -> dict[str, Any]:
    """Part 3: rates after the start, in turn, the median of each."""
    source = work / "large"
    rates: dict[int, list[float]] = {1: [], 2: []}
    cost: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for workers in (1, 2):
            output = work / f"out_speed_{workers}_{repeat}"
            code, said = finish(start(source, output, workers, ["--device", "cpu"]))
            if code:
                raise SystemExit(f"exit code {code}")
            rates[workers].append(said["studies_per_second"])
            cost[workers].append(_cpu_seconds(output))
    middle = {workers: sorted(found)[len(found) // 2] for workers, found in rates.items()}
    spent = {workers: sorted(found)[len(found) // 2] for workers, found in cost.items()}
    return {
        "studies_per_second": rates,
        "cpu_seconds_a_study": cost,
        "efficiency": middle[2] / (2 * middle[1]),
        "efficiency_by_processor_time": spent[1] / spent[2],
    }


def _cpu_seconds(output: Path) -> float:
    """Processor time of a study: the median without their workers' first ones, which load the model."""
    seen: set[str] = set()
    found = []
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: -float(row["cpu_seconds"])):
            if row["worker"] in seen:
                found.append(float(row["cpu_seconds"]))
            seen.add(row["worker"])
    return sorted(found)[len(found) // 2]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts and print a table."""
    parser = parser_for(__doc__ or "", "cohort")
    parser.add_argument("--studies", type=int, default=500, help="with the broken ones")
    parser.add_argument("--bad", type=int, default=4)
    parser.add_argument("--size", nargs=3, type=int, default=(32, 32, 16), metavar=("X", "Y", "Z"))
    parser.add_argument("--large", nargs=3, type=int, default=(192, 192, 96), metavar=("X", "Y", "Z"))
    parser.add_argument("--large-studies", type=int, default=16, help="of part 3")
    parser.add_argument("--repeats", type=int, default=1, help="of part 3")
    parser.add_argument("--parts", default="1,2,3", help="which of the four")
    parser.add_argument("--cluster-option", action="append", default=[], help="of part 4")
    parser.add_argument("--work", type=Path, help="folder for scans and results; default: a temporary one")
    options = parser.parse_args(argv)
    parts = set(options.parts.split(","))
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        os.environ.update(threads)
        good = options.studies - options.bad
        if not (work / "small").exists():
            make_studies(work / "small", good, tuple(options.size), options.bad)
        if "3" in parts and not (work / "large").exists():
            make_studies(work / "large", options.large_studies, tuple(options.large), 0, seed=1)
        found: dict[str, Any] = {
            "load": os.getloadavg(),
            **threads,
            "size": options.size,
            "large": options.large,
        }
        if "1" in parts:
            found["killed_workers"] = killed_workers(work, good, options.bad, ["--device", "cpu"])
        if "2" in parts:
            found["killed_run"] = killed_run(work, good, options.bad, ["--device", "cpu"])
        if "3" in parts:
            found["efficiency"] = efficiency(work, options.repeats)
        if "4" in parts:
            found["slurm"] = on_slurm(work, options.bad, options.cluster_option)
    for name in ("killed_workers", "killed_run", "efficiency", "slurm"):
        if name in found:
            print(f"\n{name.replace('_', ' ')} (load {found['load'][0]:.1f})\n")
            print(markdown(("", "found"), found[name].items()))
    write_json(options.json, found)


if __name__ == "__main__":
    main()
