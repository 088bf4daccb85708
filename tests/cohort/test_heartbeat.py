"""A worker ends when its run does; the run sees who is at work."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from medrecon.cohort import heartbeat
from medrecon.cohort.heartbeat import Lease, Pulse
from medrecon.errors import OutputError

WORKER = """
import pickle, sys, time
from medrecon.cohort.heartbeat import Pulse
with Pulse(pickle.loads(sys.stdin.buffer.read())).start().at_work():
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return Lease.of_this_process(tmp_path)


def test_a_lease_holds_until_the_next_or_the_end_of_its_process(lease: Lease, tmp_path: Path) -> None:
    assert lease.holds()
    assert not dataclasses.replace(lease, born=lease.born - 1).holds()  # its number was given to another
    assert dataclasses.replace(lease, host="elsewhere", process=0).holds()
    Lease.of_this_process(tmp_path)
    assert not lease.holds()
    (tmp_path / "run").unlink()
    assert not lease.holds()


def test_it_is_renewed_while_kept(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_BEAT", 0.02)
    os.utime(lease.state / "run", (1, 1))
    end = time.monotonic() + 20
    with lease.kept():
        while lease.renewed() <= 1 and time.monotonic() < end:
            time.sleep(0.02)
    assert lease.renewed() > 1


def test_beats_are_seen_only_of_those_at_work(lease: Lease) -> None:
    worker = Pulse(lease)
    assert lease.beats() == {}
    with worker.at_work():
        assert list(lease.beats()) == [worker.name]
        assert worker.busy
    assert not worker.busy


def test_a_lease_that_nobody_renews_runs_out(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Pulse(dataclasses.replace(lease, host="elsewhere"))
    assert not worker._is_over()
    monkeypatch.setattr(heartbeat, "LEASE", -1.0)
    assert worker._is_over()
    os.utime(lease.state / "run", (9, 9))  # renewed: the time starts anew
    monkeypatch.setattr(heartbeat, "LEASE", 300.0)
    assert not worker._is_over()
    Lease.of_this_process(lease.state)
    with pytest.raises(OutputError, match="is over"), worker.at_work():
        pass


def test_a_worker_ends_with_its_run(lease: Lease) -> None:
    import pickle

    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = psutil.Process(parent.pid).create_time()
    theirs = dataclasses.replace(lease, process=parent.pid, born=born)
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(pickle.dumps(theirs))
    worker.stdin.close()
    try:
        assert worker.stdout.readline() == b"at work\n"
        assert worker.poll() is None
        parent.kill()
        parent.wait()
        assert worker.wait(timeout=60) == 75
    finally:
        worker.kill()
        worker.wait()
        parent.kill()
        parent.wait()
        worker.stdout.close()
        if parent.stdin is not None:
            parent.stdin.close()
