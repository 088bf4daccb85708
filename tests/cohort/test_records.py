"""A study counts as done while its record, its files, its source and the settings agree, and not longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrecon.cohort.records import RECORD, Ledger, source_stamp
from medrecon.errors import OutputError

ROW = {"status": "done", "scans": 1}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "out", "settings")
    made.state.mkdir(parents=True)
    return made


def make(ledger: Ledger, text: str = "result", source: str = "stamp") -> dict[str, object]:
    place = ledger.making("a")
    (place / "series").mkdir()
    (place / "series" / "1.dcm").write_text(text)
    return ledger.commit("a", place, source, {**ROW, "text": text})


def test_what_is_committed_is_finished(ledger: Ledger) -> None:
    assert ledger.finished("a", "stamp") is None
    assert make(ledger) == {**ROW, "text": "result"}
    assert ledger.finished("a", "stamp") == {**ROW, "text": "result"}
    assert sorted(p.name for p in (ledger.output / "a").rglob("*")) == ["1.dcm", "series", RECORD]
    assert list((ledger.state / "making").iterdir()) == []


def test_another_source_or_other_settings_are_not(ledger: Ledger) -> None:
    make(ledger)
    assert ledger.finished("a", "another") is None
    assert Ledger(ledger.output, "others").finished("a", "stamp") is None


@pytest.mark.parametrize("damage", ["change", "remove", "record"])
def test_damage_is_seen_and_mended(ledger: Ledger, damage: str) -> None:
    make(ledger)
    file = ledger.output / "a" / "series" / "1.dcm"
    if damage == "change":
        file.write_text("resulT")
    elif damage == "remove":
        file.unlink()
    else:
        (ledger.output / "a" / RECORD).write_text('{"files": {"../../x": ""}}')
        file.unlink()
    assert ledger.finished("a", "stamp") is None
    make(ledger, "again")
    assert file.read_text() == "again"
    assert ledger.finished("a", "stamp") is not None


def test_the_first_of_two_workers_wins(ledger: Ledger) -> None:
    make(ledger, "first")
    assert make(ledger, "second")["text"] == "first"
    assert (ledger.output / "a" / "series" / "1.dcm").read_text() == "first"
    assert list((ledger.state / "making").iterdir()) == []


def test_a_file_of_somebody_else_is_never_replaced(ledger: Ledger) -> None:
    make(ledger)
    (ledger.output / "a" / "my_notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write \(my_notes.txt\)"):
        make(ledger, source="another")
    assert (ledger.output / "a" / "my_notes.txt").read_text() == "mine"
    assert (ledger.output / "a" / "series" / "1.dcm").read_text() == "result"


def test_one_run_at_a_time_and_a_dead_ones_rests_go(ledger: Ledger) -> None:
    (ledger.making("a") / "half").write_text("done")
    lock = ledger.hold()
    assert not (ledger.state / "making").exists()
    with pytest.raises(OutputError, match="another run"):
        Ledger(ledger.output, "settings").hold()
    lock.release()
    assert not ledger.state.exists()


def test_a_stamp_follows_names_sizes_and_times(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_text("1")
    before = source_stamp(tmp_path / "s")
    assert source_stamp(tmp_path / "s") == before
    (tmp_path / "s" / "b").write_text("2")
    assert source_stamp(tmp_path / "s") != before
