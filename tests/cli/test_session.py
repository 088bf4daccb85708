"""Where a verb's words go, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import warnings

import pytest
import typer

from medrecon.cli.progress import progress_bar
from medrecon.cli.session import Outcome, Session
from medrecon.errors import OutputError


def end(session: Session, work: object) -> int:
    with pytest.raises(typer.Exit) as ended:
        session.run(work)  # type: ignore[arg-type]
    return ended.value.exit_code


def nothing(console: object) -> None:
    """Show nothing."""


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> Outcome:
        print("a library that prints")
        warnings.warn("a library that warns", stacklevel=1)
        return Outcome({"a": 1}, nothing)

    assert end(Session(json=True), work) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": 1}
    assert "a library that prints" in err
    assert "warns" not in err


def test_an_error_is_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> Outcome:
        raise OutputError("is full", path="disk", remedy="free space")

    assert end(Session(json=True), work) == 5
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {"path": "disk", "message": "is full", "remedy": "free space", "exit_code": 5}
    }
    assert err == "medrecon: disk: is full; free space\n"


def test_the_code_of_a_part_that_failed_is_kept() -> None:
    assert end(Session(), lambda: Outcome({}, nothing, 8)) == 8


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return False


def test_a_closed_pipe_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.cli.session._abandon_stdout", lambda: None)
    session = Session(json=True, stdout=ClosedPipe())
    assert end(session, lambda: Outcome({"a": 1}, nothing)) == 141
    assert capsys.readouterr().err == ""


def test_sigterm_unwinds_the_stack() -> None:
    cleaned = []

    def work() -> Outcome:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)
        raise AssertionError

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        Session().run(work)
    assert ended.value.code == 143
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("session", "stream", "drawn"),
    [
        (Session(), Terminal(), True),
        (Session(quiet=True), Terminal(), False),
        (Session(json=True), Terminal(), False),
        (Session(), io.StringIO(), False),
    ],
)
def test_bars_are_for_people_who_watch(
    session: Session, stream: io.StringIO, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(session, "[red]a scan[/]") as tick:
        assert (tick is not None) == (not session.quiet and not session.json)
        if tick is not None:
            tick(1, 4)
    assert ("[red]a scan[/]" in stream.getvalue()) == drawn


def test_quiet_and_json_say_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    Session().say("hello\nthere")
    assert capsys.readouterr().err == "hello there\n"
    for session in (Session(quiet=True), Session(json=True)):
        session.say("hello")
    assert capsys.readouterr() == ("", "")
