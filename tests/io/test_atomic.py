"""A text appears under its name whole, byte for byte as given, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from medrecon.errors import OutputError
from medrecon.io.files.atomic import write_whole


def test_line_ends_are_left_alone(tmp_path: Path) -> None:
    text = "a\nb\r\nc\rµ"
    path = write_whole(tmp_path / "new" / "x.csv", text)
    assert path.read_bytes() == text.encode("utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["x.csv"]


def test_what_was_there_stays_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "x.html", "first")

    def full(stream: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


def test_names_that_are_no_unicode_do_not_stop_it(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "x.csv", "M\udcfcller").read_text("utf-8") == "M\\udcfcller"


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "file" / "x.html", "x")
