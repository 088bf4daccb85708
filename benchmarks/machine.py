"""The ceilings of this machine: what no program on it can beat.

    python benchmarks/machine.py            # half a minute

Matrix multiplication in float32 and bfloat16 (2048 x 2048, all cores of torch), copying in memory (bytes
read plus bytes written), writing to disk with fsync: the best of the repetitions within a few seconds each.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from common import markdown, parser_for, write_json

LABELS = {
    "float32_gflops": "matrix multiply, float32, GFLOP/s",
    "bfloat16_gflops": "matrix multiply, bfloat16, GFLOP/s",
    "copy_gbs": "memory copy, GB/s",
    "disk_mbs": "disk write, MB/s",
}


def describe() -> dict[str, Any]:
    """The machine, its software, and how busy it is with other work."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if "model name" in x), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def times_of(work: Callable[[], object], seconds: float) -> list[float]:
    """The repetitions that fit into some seconds, at least two."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def best_time(work: Callable[[], object], seconds: float) -> float:
    """The shortest of the repetitions that fit into some seconds, at least two."""
    return min(times_of(work, seconds))


def ceilings(seconds: float = 3.0, size: int = 2048, folder: Path | None = None) -> dict[str, float]:
    """Measure them: GFLOP/s, GB/s, MB/s.

    Args:
        seconds: for each of them.
        size: side of the matrices; the other works shrink with it.
        folder: whose disk is measured; that of temporary files when None.
    """
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
        took = best_time(lambda a=a, b=b: a @ b, seconds)  # type: ignore[misc]
        rates[f"{str(dtype).removeprefix('torch.')}_gflops"] = 2 * size**3 / took / 1e9
    source = torch.ones(size * size * 16)
    target = torch.empty_like(source)
    rates["copy_gbs"] = 2 * source.nbytes / best_time(lambda: target.copy_(source), seconds) / 1e9
    block = os.urandom(1 << 20) * max(1, size // 16)
    with tempfile.NamedTemporaryFile(dir=folder) as file:

        def write() -> None:
            file.seek(0)
            file.write(block)
            file.flush()
            os.fsync(file.fileno())

        rates["disk_mbs"] = len(block) / best_time(write, seconds) / 1e6
    return rates


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "machine")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each ceiling")
    parser.add_argument("--size", type=int, default=2048, help="side of the matrices")
    parser.add_argument("--folder", type=Path, help="whose disk is measured")
    args = parser.parse_args(argv)
    what = describe()
    rates = ceilings(args.seconds, args.size, args.folder)
    print(f"{what['cpu']}, {what['threads']} threads, load {what['load_average']}\n")
    print(markdown(["ceiling", "measured"], [(LABELS[key], f"{value:.1f}") for key, value in rates.items()]))
    write_json(args.json, {"machine": what, "ceilings": rates})


if __name__ == "__main__":
    main()
