"""A folder where others write: links in the place of ours are not followed, nothing of others is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecon.cohort.records import STATE, Ledger
from medrecon.errors import OutputError
from medrecon.io import publish
from medrecon.io.files import atomic, lock
from medrecon.io.files.atomic import open_private, replacing, write_whole
from medrecon.io.files.lock import LOCK, SUFFIX, FolderLock, held, sweep, working_folder

Trap = Callable[[Path, Path], None]


def working_is_a_link(folder: Path, victim: Path) -> None:
    folder.symlink_to(victim.parent)


def working_is_a_file(folder: Path, victim: Path) -> None:
    folder.write_text("a file")


def working_is_a_link_to_nowhere(folder: Path, victim: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


def lock_is_a_link(folder: Path, victim: Path) -> None:
    folder.mkdir()
    (folder / LOCK).symlink_to(victim)


def lock_is_a_link_to_nowhere(folder: Path, victim: Path) -> None:
    folder.mkdir()
    (folder / LOCK).symlink_to(victim.with_name("made"))


def lock_is_the_victim(folder: Path, victim: Path) -> None:
    folder.mkdir()
    os.link(victim, folder / LOCK)


def lock_is_a_pipe(folder: Path, victim: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / LOCK)


def lock_is_a_folder(folder: Path, victim: Path) -> None:
    (folder / LOCK).mkdir(parents=True)


TRAPS = [
    working_is_a_link, working_is_a_file, working_is_a_link_to_nowhere, lock_is_a_link,
    lock_is_a_link_to_nowhere, lock_is_the_victim, lock_is_a_pipe, lock_is_a_folder,
]  # fmt: skip


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's, and another beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "new").mkdir()
    (tmp_path / "home" / "new" / "inside.txt").write_text("precious")
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    return tmp_path / "home" / "thesis.txt"


def harmed(victim: Path) -> list[str]:
    there = {path.relative_to(victim.parent).as_posix() for path in victim.parent.rglob("*")}
    wrong = sorted(there ^ {"new", "new/inside.txt", "thesis.txt"})
    return wrong + [name for name in ("thesis.txt", "new/inside.txt") if name in there and
                    (victim.parent / name).read_text() != "precious"]  # fmt: skip


def _publish(final: Path) -> None:
    with publish(final) as part:
        part.write_text("made")


def _cohort(final: Path) -> None:
    Ledger(final, "settings").hold().release()


def _train(final: Path) -> None:
    with held(final):
        pass


PLACES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Path]]] = {
    "publish": (_publish, working_folder),
    "cohort": (_cohort, lambda final: final / STATE),
    "train": (_train, working_folder),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_a_trap_is_refused_and_nothing_harmed(trap: Trap, place: str, victim: Path, tmp_path: Path) -> None:
    work, where = PLACES[place]
    final = tmp_path / "shared" / "out"
    folder = where(final)
    folder.parent.mkdir(parents=True)
    trap(folder, victim)
    with pytest.raises(OutputError) as told:
        work(final)
    assert told.value.exit_code == 5
    assert harmed(victim) == []


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_a_sweep_does_not_follow(trap: Trap, victim: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    trap(tmp_path / "shared" / f".other{SUFFIX}", victim)
    sweep(tmp_path / "shared")
    _publish(tmp_path / "shared" / "mine.txt")
    assert harmed(victim) == []
    assert (tmp_path / "shared" / "mine.txt").read_text() == "made"


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "out"
    working_folder(final).mkdir()
    monkeypatch.setattr(lock, "_is_ours", lambda status, folder: False)
    with pytest.raises(OutputError, match="another user's"):
        _publish(final)


def test_what_is_at_work_is_its_owners_alone(tmp_path: Path) -> None:
    final = tmp_path / "out.txt"
    working_folder(final).mkdir()
    working_folder(final).chmod(0o777)
    with publish(final) as part:
        part.write_text("made")
        assert stat.S_IMODE(part.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE((part.parent / LOCK).stat().st_mode) == 0o600
    held_by = FolderLock(working_folder(final), final)
    held_by.acquire()
    assert f"process {os.getpid()} on" in (held_by.folder / LOCK).read_text()
    held_by.release()


def test_names_of_unfinished_files_cannot_be_foreseen(victim: Path, tmp_path: Path) -> None:
    seen = set()
    for _ in range(3):
        with replacing(tmp_path / "a.json") as part:
            seen.add(part.name)
            part.write_text("made")
    assert len(seen) == 3
    (tmp_path / "b.json").symlink_to(victim)
    write_whole(tmp_path / "b.json", "made")
    assert not (tmp_path / "b.json").is_symlink()
    assert harmed(victim) == []


@pytest.mark.parametrize("name", ["taken", "link", "nowhere"])
def test_an_unfinished_file_is_made_new(
    name: str, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda size: "0" * 16)
    partial = tmp_path / f".a.json.{'0' * 16}.part"
    {"taken": lambda: os.link(victim, partial), "link": lambda: partial.symlink_to(victim),
     "nowhere": lambda: partial.symlink_to(victim.with_name("made"))}[name]()  # fmt: skip
    with pytest.raises(OutputError):
        write_whole(tmp_path / "a.json", "made")
    assert harmed(victim) == []


def test_private_files(victim: Path, tmp_path: Path) -> None:
    write_whole(tmp_path / "table.csv", "names", mode=atomic.PRIVATE)
    with open_private(tmp_path / "log") as stream:
        stream.write(b"said")
    for name in ("table.csv", "log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(OutputError):
        open_private(tmp_path / "link")
    assert harmed(victim) == []


def test_a_killed_run_leaves_no_pixels_after_the_next(tmp_path: Path) -> None:
    """The folder of a dead run is removed by the next one beside it, whatever that makes."""
    dead = tmp_path / f".scan.nii.gz{SUFFIX}"
    dead.mkdir(mode=0o700)
    (dead / LOCK).write_text("process 4000000 on elsewhere")
    (dead / "new").write_bytes(b"pixels of a patient" * 1000)
    _publish(tmp_path / "other.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.txt"]
