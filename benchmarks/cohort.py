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
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from common import markdown, parser_for, write_json

MEDRECON = (sys.executable, "-W", "ignore", "-m", "medrecon")


def make_studies(folder: Path, count: int, size: tuple[int, int, int], bad: int, seed: int = 0) -> None:
    """Phantoms as NIfTI, and broken ones: empty, cut off, no scan at all, without geometry.

    They are made in a process of their own: this one must stay small, see `benchmarks/README.md`.
    """
    subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--make",
            str(folder),
            str(count),
            *map(str, size),
            str(seed),
        ],
        check=True,
    )
    whole = sorted(folder.iterdir())[0].read_bytes()
    broken = (b"", whole[: len(whole) // 2], b"no scan", whole[:40] + bytes(60) + whole[100:])
    for number in range(bad):
        (folder / f"bad{number}.nii").write_bytes(broken[number % len(broken)])


def _make(folder: Path, count: int, size: tuple[int, int, int], seed: int) -> None:
    import nibabel
    import numpy as np

    from medrecon.phantoms import random_volume

    folder.mkdir(parents=True)
    for number in range(count):
        volume, _ = random_volume(size, np.random.default_rng([seed, number]), "MR")
        image = nibabel.Nifti1Image(
            np.asarray(volume).round().astype(np.int16), np.diag([1.0, 1.0, 2.0, 1.0])
        )
        nibabel.save(image, folder / f"s{number:04d}.nii")


def start(source: Path, output: Path, workers: int, more: list[str]) -> subprocess.Popen[str]:
    """A run in the background."""
    command = [
        *MEDRECON,
        "cohort",
        str(source),
        str(output),
        "-l",
        "level3",
        "--json",
        "-n",
        str(workers),
        *more,
    ]
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


def check(source: Path, output: Path, bad: int) -> dict[str, Any]:
    """Each study once in the table, a folder for each good one alone, voxels as from reconstruct."""
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    good = [row for row in rows if row["status"] == "done"]
    studies = {path.name for path in source.iterdir()}
    told = [row["source"] for row in rows]
    folders = {path.name for path in output.iterdir() if path.is_dir()}
    equal = _equal([row for row in good if int(row["source"][1:5]) % 16 == 0], source, output)
    growth: dict[str, list[float]] = {}
    for row in good:
        growth.setdefault(row["worker"], []).append(float(row["memory_mib"]))
    return {
        "studies": len(studies),
        "right": len(good),
        "reported": len(rows) - len(good),
        "reported_are_the_bad": {r["source"][:3] for r in rows if r["status"] != "done"} <= {"bad"}
        and bad > 0,
        "lost": len(studies - set(told)),
        "doubled": len(told) - len(set(told)),
        "folders_match": folders == {row["study"] for row in good},
        "compared_with_reconstruct": equal,
        "tried_again": sum(int(row["tries"] or 1) > 1 for row in rows),
        "workers": len(growth),
        # of the most that is held: from study to study a block is given back or kept, either way
        "memory_growth_mib": max(
            (max(v[len(v) // 2 :]) - max(v[:10]) for v in growth.values() if len(v) > 20), default=None
        ),
        "memory_mib": [edge(sum(growth.values(), [0.0])[1:], default=None) for edge in (min, max)],
    }


def _equal(rows: list[dict[str, str]], source: Path, output: Path) -> str:
    """How many of some studies came out as `medrecon reconstruct` makes them, bit for bit."""
    code = (
        "import sys, nibabel, numpy as np\n"
        "a, b = (np.asarray(nibabel.load(p).dataobj) for p in sys.argv[1:])\n"
        "sys.exit(0 if np.array_equal(a, b) else 1)\n"
    )
    same = 0
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "in"
        listed.mkdir()
        for row in rows:
            (listed / row["source"]).symlink_to(source / row["source"])
        if rows:
            made = Path(folder) / "out"
            command = [*MEDRECON, "reconstruct", str(listed), str(made), "-l", "level3", "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            by_name = {
                Path(r["path"]).name: r["outputs"]["level3"] for r in json.loads(done.stdout)["results"]
            }
            for row in rows:
                ours = next((output / row["study"]).glob("*.nii.gz"))
                same += (
                    subprocess.run([sys.executable, "-c", code, ours, by_name[row["source"]]]).returncode == 0
                )
    return f"{same}/{len(rows)}"


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


def main(arguments: list[str] | None = None) -> None:
    """Run the parts and print a table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--make"]:
        _make(Path(given[1]), int(given[2]), (int(given[3]), int(given[4]), int(given[5])), int(given[6]))
        return
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
    options = parser.parse_args(given)
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
            more = ["--cluster", "slurm", "--device", "cpu"]
            more += [word for option in options.cluster_option for word in ("--cluster-option", option)]
            output = work / "out_slurm"
            begun = time.perf_counter()
            code, said = finish(start(work / "small", output, 2, more))
            found["slurm"] = {
                "exit_code": code,
                "seconds": time.perf_counter() - begun,
                "studies_per_second": said.get("studies_per_second"),
                **check(work / "small", output, options.bad),
            }
    for name in ("killed_workers", "killed_run", "efficiency", "slurm"):
        if name in found:
            print(f"\n{name.replace('_', ' ')} (load {found['load'][0]:.1f})\n")
            print(markdown(("", "found"), found[name].items()))
    write_json(options.json, found)


if __name__ == "__main__":
    main()
