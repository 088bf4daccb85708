"""Decode compressed pixels in a child process with memory, CPU and time limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.io.dicom.reading import codecs
from medrecon.io.dicom.reading.frames import Frame
from medrecon.io.files.stamp import check_unchanged
from medrecon.io.scan import ScanError

BASE_SECONDS = 8.0
SECONDS_PER_VOXEL = 2e-6
BASE_BYTES = 768 << 20
MAX_THREADS = 4
WALL_FACTOR = 4
"""Wall time allowed for a second of CPU time: a busy machine must not refuse a good scan."""

BOOT = """
import contextlib, json, runpy, sys
limits = json.loads(sys.argv[2])
with contextlib.suppress(ImportError, ValueError):  # not on this system, or a tighter limit is set already
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["seconds"], limits["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits["bytes"], limits["bytes"]))
sys.path[:] = limits["path"]
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def run_limited(
    program: str, job: dict[str, Any], *, path: Path, seconds: float, memory: int
) -> dict[str, Any]:
    """Run one of our programs on a job in a child process and return its answer.

    Args:
        program: the Python file, which reads a JSON job from stdin and writes a JSON answer to stdout.
        job: what it gets.
        path: the scan, for the message.
        seconds: limit of CPU time; wall time may be `WALL_FACTOR` times that.
        memory: limit of address space in bytes.

    Raises:
        ScanError: it crashed, ran out of time or memory, or refused the input.
    """
    limits = {"bytes": memory, "seconds": max(1, int(seconds)), "path": [p for p in sys.path if p]}
    command = [sys.executable, "-I", "-c", BOOT, program, json.dumps(limits)]
    env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    env |= {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP") if name in os.environ}
    remedy = "export it again, uncompressed if that is possible"
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=WALL_FACTOR * seconds,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired:
        wall = WALL_FACTOR * seconds
        raise ScanError(f"decoding took more than {wall:.0f} s", path=path, remedy=remedy) from None
    if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
        raise ScanError(f"decoding took more than {seconds:.0f} s of CPU time", path=path, remedy=remedy)
    if done.returncode < 0:
        raise ScanError(f"decoding crashed (signal {-done.returncode})", path=path, remedy=remedy)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise ScanError(f"decoding failed: {last[:200]}", path=path, remedy=remedy) from None
    if "error" in answer:
        raise ScanError(f"cannot be decoded: {answer['error']}", path=answer.get("path", path), remedy=remedy)
    return answer


def decode_frames(frames: Sequence[Frame]) -> np.ndarray:
    """Decode compressed frames, (N, rows, columns) unsigned integers of the header's Bits Allocated.

    Raises:
        ScanError: an encoding that is not supported, or data that do not decode within the limits.
    """
    for frame in frames:
        if frame.syntax not in codecs.SUPPORTED:
            raise ScanError(
                f"pixel encoding (transfer syntax) {frame.syntax} is not supported",
                path=frame.path,
                remedy="export it uncompressed",
            )
    first, largest = frames[0], max(frame.size for frame in frames)
    files: list[list[Any]] = []
    for frame in frames:
        if files and files[-1][0] == str(frame.path):
            files[-1][-1].append(frame.index)
            continue
        check_unchanged(frame.path, (frame.size, frame.mtime_ns))
        files.append(
            [
                *(str(frame.path), frame.offset, frame.size, frame.order, frame.count, frame.syntax),
                *(frame.rows, frame.columns, frame.allocated, [frame.index]),
            ]
        )
    shape = (len(frames), first.rows, first.columns)
    voxels = int(np.prod(shape))
    with tempfile.TemporaryDirectory(prefix="medrecon-") as folder:
        output = Path(folder) / "frames.raw"
        run_limited(
            codecs.__file__,
            {"output": str(output), "files": files, "threads": min(MAX_THREADS, os.cpu_count() or 1)},
            path=first.path,
            seconds=BASE_SECONDS + SECONDS_PER_VOXEL * voxels,
            memory=BASE_BYTES + MAX_THREADS * (32 * first.rows * first.columns + 2 * largest),
        )
        return np.fromfile(output, f"<u{first.allocated // 8}", voxels).reshape(shape)
