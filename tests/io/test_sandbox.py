"""The child that decodes pixels: its limits, and what it may not do."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.uid import RLELossless

from medrecon.errors import OutputError
from medrecon.io import ScanError, find_one, read_scan
from medrecon.io.dicom.reading import confinement, sandbox
from medrecon.io.dicom.reading.confinement import MACHINES
from medrecon.io.dicom.reading.sandbox import run_limited

Make = Callable[..., np.ndarray]
PROGRAMS = {
    "CPU time": ("while True:\n    pass", r"took more than (1 s of CPU time|4 s)"),
    "time": ("import time\ntime.sleep(60)", "took more than 4 s"),
    "memory": ("x = bytearray(1 << 34)", "decoding failed: MemoryError"),
    "crash": ("import os\nos.abort()", r"crashed \(signal 6\)"),
    "silence": ("", "no message"),
}


def run_program(program: Path, *, seconds: float = 30, size: int = 0) -> tuple[dict, bytes]:
    """The answer and the output of a program in the child."""
    with tempfile.TemporaryFile() as output:
        answer = run_limited(
            str(program), {}, output=output, path=Path("scan"), seconds=seconds, memory=1 << 30, size=size
        )
        output.seek(0)
        return answer, output.read()


@pytest.mark.parametrize("fault", PROGRAMS)
def test_limits_of_the_child(fault: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[fault][0])
    start = time.monotonic()
    with pytest.raises(ScanError, match=PROGRAMS[fault][1]):
        run_program(program, seconds=1 if "time" in fault else 15)
    assert time.monotonic() - start < 40


def test_the_child_imports_nothing_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    program = tmp_path / "program.py"
    program.write_text("import sys\nsys.stdout.write('pixels')\nsys.stderr.write('{}')")
    monkeypatch.chdir(tmp_path)
    assert run_program(program) == ({}, b"pixels")
    assert sys.path


ATTEMPTS = {
    "socket": "__import__('socket').socket()",
    "socket pair": "__import__('socket').socketpair()",
    "new file": "open('new', 'w')",
    "file that is there": "open('old', 'r+')",
    "appended file": "open('old', 'a')",
    "created by flags": "os.open('new', os.O_RDONLY | os.O_CREAT)",
    "unnamed file": "os.open('.', os.O_RDWR | os.O_TMPFILE)",
    "folder": "os.mkdir('new')",
    "pipe with a name": "os.mkfifo('new')",
    "link": "os.link('old', 'new')",
    "symbolic link": "os.symlink('old', 'new')",
    "renamed": "os.rename('old', 'new')",
    "removed": "os.remove('old')",
    "cut": "os.truncate('old', 0)",
    "rights": "os.chmod('old', 0o777)",
    "times": "os.utime('old', (0, 0))",
    "process": "os.fork()",
    "program": "os.execv('/bin/true', ['true'])",
    "child": "__import__('subprocess').run(['true'])",
    "spawned": "os.posix_spawn('/bin/true', ['true'], {})",
    "signal": "os.kill(os.getppid(), 0)",
    "other root": "os.chroot('.')",
    "larger output": "(os.write(1, bytes(1 << 20)), os.write(1, b'x'))",
    "more memory": "__import__('resource').setrlimit(7, (4096, 1 << 30))",
}
CALLS = """
import json, os, sys, threading
os.chdir(os.path.dirname(__file__))
said = []
def attempt():
    try:
        said.append("done: " + str(%s))
    except (OSError, ValueError) as error:
        said.append(type(error).__name__)
thread = threading.Thread(target=attempt)  # threads are needed, and confined too
thread.start(); thread.join()
sys.stderr.write(json.dumps({"said": said, "old": open("old").read()}))
"""


@pytest.mark.skipif(platform.machine() not in MACHINES or sys.platform != "linux", reason="no seccomp here")
@pytest.mark.parametrize("what", ATTEMPTS)
def test_what_the_child_may_not_do(what: str, tmp_path: Path) -> None:
    program, old = tmp_path / "program.py", tmp_path / "old"
    program.write_text(CALLS % ATTEMPTS[what])
    old.write_text("kept")
    before = sorted(p.name for p in tmp_path.iterdir())
    answer, output = run_program(program, size=4096)
    assert answer["old"] == "kept"
    assert not answer["said"][0].startswith("done"), answer
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert len(output) <= 1 << 20


def test_it_is_said_where_the_child_is_not_confined(
    tmp_path: Path,
    make_series: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_series(tmp_path / "ct", syntax=RLELossless)
    lame = tmp_path / "confinement.py"
    text = Path(confinement.__file__).read_text()
    lame.write_text(text.replace('sys.platform != "linux"', "True", 1))
    monkeypatch.setattr(confinement, "__file__", str(lame))
    sandbox._say_unconfined.cache_clear()
    for _ in range(2):
        read_scan(find_one(tmp_path / "ct"))
    assert [r.message for r in caplog.records] == [
        "compressed pixels are decoded with limits of time and memory alone: no filter of system calls: "
        f"linux on {platform.machine()} has none that is known here"
    ]


def test_a_full_temporary_folder_is_not_the_fault_of_the_scan(
    tmp_path: Path, make_series: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_series(tmp_path / "ct", syntax=RLELossless)
    scan = find_one(tmp_path / "ct")
    places = iter([Path("/dev/full").open("r+b", buffering=0), tempfile.TemporaryFile()])  # noqa: SIM115
    fake = SimpleNamespace(TemporaryFile=lambda: next(places), gettempdir=tempfile.gettempdir)
    monkeypatch.setattr(sandbox, "tempfile", fake)
    with pytest.raises(OutputError, match="no room for decoded pixels"):
        read_scan(scan)
