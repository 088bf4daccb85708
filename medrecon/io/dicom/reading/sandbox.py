"""Decode compressed pixels in a child process: little memory and time, no network, no files, no processes."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from medrecon.errors import OutputError
from medrecon.io.dicom.reading import codecs, confinement
from medrecon.io.dicom.reading.frames import Frame
from medrecon.io.files.outputs import LOG
from medrecon.io.files.stamp import check_unchanged
from medrecon.io.scan import ScanError

BASE_SECONDS = 8.0
SECONDS_PER_VOXEL = 2e-6
BASE_BYTES = 768 << 20
MAX_THREADS = 4
WALL_FACTOR = 4
"""Wall time allowed for a second of CPU time: a busy machine must not refuse a good scan."""

MAX_SAID = 1 << 16
"""Bytes of the child's stderr that are looked at: the last ones."""
REMEDY = "export it again, uncompressed if that is possible"


def run_limited(
    program: str,
    job: dict[str, Any],
    *,
    output: IO[bytes],
    path: Path,
    seconds: float,
    memory: int,
    size: int,
) -> dict[str, Any]:
    """Run one of our programs on a job in a child process and return its answer.

    Args:
        program: the Python file. It reads a JSON job from stdin, writes its result to stdout, and its answer,
            one line of JSON, to stderr.
        job: what it gets.
        output: receives its stdout: a file of the system.
        path: the scan, for the message.
        seconds: limit of CPU time; wall time may be `WALL_FACTOR` times that.
        memory: limit of address space in bytes.
        size: limit of its output in bytes.

    Raises:
        ScanError: it crashed, ran out of time or memory, or refused the input.
        OutputError: there is no room for its output.
    """
    limits = {
        "bytes": memory,
        "seconds": max(1, int(seconds)),
        "output": size + MAX_SAID,
        "path": [p for p in sys.path if p],
    }
    command = [sys.executable, "-I", "-B", confinement.__file__, program, json.dumps(limits)]
    env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    env |= {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                command,
                input=json.dumps(job).encode(),
                stdout=output,
                stderr=said,
                timeout=WALL_FACTOR * seconds,
                env=env,
                check=False,
            )
        except subprocess.TimeoutExpired:
            wall = WALL_FACTOR * seconds
            raise ScanError(f"decoding took more than {wall:.0f} s", path=path, remedy=REMEDY) from None
        said.seek(max(0, said.seek(0, os.SEEK_END) - MAX_SAID))
        lines = said.read().decode(errors="replace").strip().splitlines() or ["no message"]
    if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
        raise ScanError(f"decoding took more than {seconds:.0f} s of CPU time", path=path, remedy=REMEDY)
    if done.returncode < 0:
        raise ScanError(f"decoding crashed (signal {-done.returncode})", path=path, remedy=REMEDY)
    if lines[0].startswith(confinement.UNCONFINED):
        _say_unconfined(lines[0])
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except ValueError:
        raise ScanError(f"decoding failed: {lines[-1][:200]}", path=path, remedy=REMEDY) from None
    if "full" in answer:
        raise no_room(answer["full"])
    if "error" in answer:
        raise ScanError(f"cannot be decoded: {answer['error']}", path=answer.get("path", path), remedy=REMEDY)
    return answer


@functools.cache
def _say_unconfined(why: str) -> None:
    """Once in each process."""
    LOG.warning("compressed pixels are decoded with limits of time and memory alone: %s", why)


def no_room(why: str) -> OutputError:
    """The refusal where the temporary folder cannot take the decoded pixels."""
    return OutputError(
        f"no room for decoded pixels ({why})",
        path=tempfile.gettempdir(),
        remedy="free space there, or set TMPDIR to a folder with more",
    )


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
                *(frame.rows, frame.columns, frame.allocated),
                *(None if frame.any_bits else frame.stored, frame.signed, [frame.index]),
            ]
        )
    shape = (len(frames), first.rows, first.columns)
    voxels = int(np.prod(shape))
    size = voxels * first.allocated // 8
    try:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - has no name: nothing of it outlives the process
    except OSError as error:
        raise no_room(str(error.strerror)) from None
    with output:
        run_limited(
            codecs.__file__,
            {"files": files, "threads": min(MAX_THREADS, os.cpu_count() or 1)},
            output=output,
            path=first.path,
            seconds=BASE_SECONDS + SECONDS_PER_VOXEL * voxels,
            memory=BASE_BYTES + MAX_THREADS * (32 * first.rows * first.columns + 2 * largest),
            size=size,
        )
        output.seek(0)
        pixels = np.fromfile(output, f"<u{first.allocated // 8}", voxels)
    if len(pixels) != voxels:
        raise ScanError("decoding gave fewer pixels than there must be", path=first.path, remedy=REMEDY)
    return pixels.reshape(shape)
