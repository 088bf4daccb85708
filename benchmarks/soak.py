"""A long run of medrecon cohort: whether memory and open files stay as they are.

    python benchmarks/soak.py          # five minutes on two cores

Small studies, and large ones spread evenly among them, go through two workers. Each worker's memory after
each study stands in the run's table; its open files, and what it holds at work, are looked at every half
second. What counts is the second half of the run against the first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from cohort import finish, start
from cohort_checks import check, read_rows
from cohort_studies import make_studies
from common import markdown, parser_for, write_json

_EVERY = 0.5  # seconds
Sample = tuple[float, int, float]


def make(folder: Path, small: int, size: Sequence[int], large: int, large_size: Sequence[int]) -> None:
    """Small studies, and large ones whose names stand between theirs: cohort takes studies by name."""
    make_studies(folder, small, (size[0], size[1], size[2]), 0)
    of_one = folder.with_name("large")
    make_studies(of_one, 1, (large_size[0], large_size[1], large_size[2]), 0, seed=1)
    (one,) = of_one.iterdir()
    for number in range(large):
        shutil.copy(one, folder / f"s{number * small // large:04d}_large.nii")


def watch(run: Any, output: Path) -> dict[int, list[Sample]]:
    """Until the run ends: seconds, open files and MiB of each worker, by process."""
    seen: dict[int, list[Sample]] = {}
    begun = time.monotonic()
    pulses = output / ".medrecon-cohort" / "pulses"
    while run.poll() is None:
        for pulse in pulses.iterdir() if pulses.is_dir() else ():
            process = int(pulse.name.rsplit("-", 1)[1])
            try:
                worker = psutil.Process(process)
                held = worker.memory_info().rss / 2**20
                sample = (time.monotonic() - begun, worker.num_fds(), held)
            except psutil.Error:
                continue
            seen.setdefault(process, []).append(sample)
        time.sleep(_EVERY)
    return seen


def halves(samples: dict[int, list[Sample]]) -> dict[str, Any]:
    """The most open files and the most memory at work of any worker, in either half of its life."""
    found: dict[str, list[float]] = {"open_files": [0, 0], "mib_at_work": [0, 0]}
    for each in samples.values():
        middle = (each[0][0] + each[-1][0]) / 2
        for when, files, held in each:
            half = int(when > middle)
            found["open_files"][half] = max(found["open_files"][half], files)
            found["mib_at_work"][half] = max(found["mib_at_work"][half], round(held))
    return dict(found)


def after_studies(table: Path) -> dict[str, list[float]]:
    """The most memory in MiB that any worker held after a small and after a large study, in either half."""
    rows = [row for row in read_rows(table.parent) if row["status"] == "done"]
    rows.sort(key=lambda row: row["source"])
    found: dict[str, list[float]] = {}
    for kind in ("small", "large"):
        held = [float(row["memory_mib"]) for row in rows if ("_large" in row["source"]) == (kind == "large")]
        middle = len(held) // 2
        found[f"mib_after_{kind}"] = [max(held[:middle]), max(held[middle:])]
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run it and print a table."""
    parser = parser_for(__doc__ or "", "soak")
    parser.add_argument("--small", type=int, default=500, help="small studies")
    parser.add_argument("--size", nargs=3, type=int, default=(64, 64, 32), metavar=("X", "Y", "Z"))
    parser.add_argument("--large", type=int, default=20, help="large studies")
    parser.add_argument("--large-size", nargs=3, type=int, default=(512, 512, 100), metavar=("X", "Y", "Z"))
    options = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in", Path(folder) / "out"
        make(source, options.small, options.size, options.large, options.large_size)
        begun = time.perf_counter()
        run = start(source, output, 2, ["--device", "cpu"])
        samples = watch(run, output)
        code, _ = finish(run)
        found: dict[str, Any] = {
            "exit_code": code,
            "seconds": round(time.perf_counter() - begun),
            **check(source, output, 0),
            **halves(samples),
            **after_studies(output / "results.csv"),
        }
    print(f"\nload {os.getloadavg()[0]:.1f}; pairs are the first half and the second\n")
    print(markdown(("", "found"), found.items()))
    write_json(options.json, {"sizes": [options.size, options.large_size], **found})


if __name__ == "__main__":
    main()
