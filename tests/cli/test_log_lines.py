"""Each line of a log is one line, and nothing in it steers a terminal."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from medrecon.cli.app import main
from medrecon.cli.log_lines import LogLines

HOSTILE = "a\x1b[31mb\nc\u202ed\x00e"


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("medrecon", logging.WARNING, "", 0, "%s", (text,), None)


def test_a_record_is_one_line() -> None:
    line = LogLines(as_json=False).format(record(HOSTILE))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_a_record_is_one_json_object() -> None:
    line = LogLines(as_json=True).format(record(HOSTILE))
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert (told["level"], set(told)) == ("warning", {"time", "level", "message"})


@pytest.mark.parametrize("words", [["scans", "no\x1bthing", "--log-json"], ["--log-json", "scan"]])
def test_errors_are_json_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert "\x1b" not in told["message"]
    assert not told["message"].startswith("medrecon:")


def test_what_is_logged_goes_to_stderr_as_json(tmp_path: Path) -> None:
    code = (
        "import logging; from medrecon.cli.session import Outcome, Session\n"
        "def work():\n    logging.getLogger('medrecon').warning('x\\x1by')\n"
        "    return Outcome({}, lambda console: None)\n"
        "Session(log_json=True).run(work)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(done.stderr.splitlines()[0])["message"] == "x?y"
