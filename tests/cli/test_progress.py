"""What is said on stderr while something takes long."""

from __future__ import annotations

import re
import sys
import time

import pytest

from medrecon.cli.progress import long_work, phase_bar, progress_bar
from medrecon.cli.session import Session


def test_a_log_gets_a_line_from_time_to_time(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[int] = []

    def words(done: int) -> str:
        made.append(done)
        return f"{done} of 3"

    with long_work(Session(), 3, every=0.0, first="starting") as show:
        show(1, lambda: words(1))
        show(2, lambda: words(2))
    assert capsys.readouterr().err.splitlines() == ["1 of 3", "2 of 3"]
    with long_work(Session(), 3, every=60.0, first="starting") as show:
        show(3, lambda: words(3))
    assert made == [1, 2], "words are made when they are shown"
    with long_work(Session(quiet=True), 3, every=0.0, first="starting") as show:
        show(1, lambda: "unheard")
    assert not capsys.readouterr().err


def test_a_person_who_watches_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    said: list[str] = []
    with long_work(Session(), 3, every=60.0, first="starting") as show:
        show(0, lambda: said.append("too early") or "")
        show(2, lambda: said.append("words") or "2 of 3")
    with progress_bar(Session(), "scan") as tick:
        assert tick is not None
        tick(1, 2)
        time.sleep(0.2)
    with phase_bar(Session(), "reading", "tiles") as begin:
        time.sleep(0.2)
        tick = begin("working")
        assert tick is not None
        tick(1, 2)
        time.sleep(0.2)
        begin("writing")
        time.sleep(0.2)
    assert said == ["words"]
    shown = capsys.readouterr().err
    _, of_phases = shown.split("reading", 1)
    work, writing = of_phases.split("writing", 1)
    assert work.index("working") > 0
    assert re.search(r"1/2\S* tiles", work)
    assert "/2" not in writing, "how far the last phase was"
    with progress_bar(Session(quiet=True), "scan") as tick:
        assert tick is None
    with phase_bar(Session(quiet=True), "reading") as begin:
        assert begin("working") is None


def test_a_log_hears_of_long_work_what_is_counted_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("medrecon.cli.progress.time.monotonic", lambda: next(clock))
    with progress_bar(Session(), "t1.nii.gz", "steps") as tick:
        assert tick is not None
        for done in range(7):
            tick(done, 6)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "t1.nii.gz: 1 of 6 steps, about 3:20 left",
        "t1.nii.gz: 3 of 6 steps, about 1:20 left",
        "t1.nii.gz: 5 of 6 steps, about 0:24 left",
    ]
    with progress_bar(Session(json=True), "t1.nii.gz", "steps") as tick:
        assert tick is None


def test_a_person_hears_at_once_that_it_begins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Session().begin("reconstruct: loading ...")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    Session().begin("reconstruct: loading ...")
    Session(quiet=True).begin("reconstruct: loading ...")
    assert capsys.readouterr().err == "reconstruct: loading ...\n"
