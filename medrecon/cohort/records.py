"""What is finished: a study's folder appears in one rename, with a record of the hashes of its files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrecon.errors import OutputError, told_as
from medrecon.io.files.lock import LOCK, FolderLock
from medrecon.io.files.outputs import hash_file
from medrecon.io.files.walk import walk

RECORD = "study.json"
SCHEMA = "medrecon.study/1"
STATE = ".medrecon-cohort"
"""In the output while a run is at work: its lock, unfinished studies, pulses and the engine's logs."""

_MAKING, _ASIDE = "making", "aside"


class Ledger:
    """The finished studies of one output folder.

    Args:
        output: the folder; each study gets one in it.
        settings: fingerprint of what is asked; results of others do not count.
    """

    def __init__(self, output: Path, settings: str) -> None:
        self.output, self.settings = output, settings

    @property
    def state(self) -> Path:
        """The hidden folder of the run that is at work."""
        return self.output / STATE

    def hold(self) -> FolderLock:
        """Take the output for this run, and clear what a dead one left half done.

        Raises:
            OutputError: another run is at work in it, or it cannot be written.
        """
        with told_as(OutputError, path=self.output):
            self.output.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(self.state, self.output)
            lock.acquire()
            for entry in self.state.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name != LOCK:
                    entry.unlink()
        return lock

    def making(self, study: str) -> Path:
        """A new place to make a study in: one for each attempt, so that no two workers ever share one."""
        place = self.state / _MAKING / f"{study}.{uuid.uuid4().hex}"
        place.mkdir(parents=True)
        return place

    def begun(self, study: str) -> bool:
        """Whether an earlier run left something for a study; `finished` looks closer, and takes longer."""
        return (self.output / study / RECORD).is_file()

    def finished(self, study: str, source: str) -> dict[str, Any] | None:
        """The row of a study that is done, if every file of it still has its hash; else None.

        Args:
            study: its id.
            source: `source_stamp` as it is now: a study whose files changed is not done.
        """
        record = self._record(study)
        if record is None or (record["settings"], record["source"]) != (self.settings, source):
            return None
        folder = self.output / study
        try:
            whole = all(hash_file(folder / name) == digest for name, digest in record["files"].items())
        except OSError:
            return None
        row: dict[str, Any] = record["row"]
        return row if whole else None

    def commit(self, study: str, made: Path, source: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Put a finished study in its place, in one rename; where another worker was faster, keep its.

        Args:
            study: its id.
            made: the folder from `making`, with all of its outputs.
            source: `source_stamp` of what it was made from.
            row: its line of the table.

        Returns:
            The row that counts.

        Raises:
            OutputError: the place holds what medrecon did not write.
        """
        files = {path.relative_to(made).as_posix(): hash_file(path) for path in _files(made)}
        record = {
            "schema": SCHEMA,
            "settings": self.settings,
            "source": source,
            "files": files,
            "row": dict(row),
        }
        with (made / RECORD).open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        final = self.output / study
        try:
            made.rename(final)
        except OSError:
            before = self.finished(study, source)
            if before is not None:
                shutil.rmtree(made, ignore_errors=True)
                return before
            self._put_aside(study)
            made.rename(final)
        with contextlib.suppress(OSError):
            handle = os.open(self.output, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return dict(row)

    def _put_aside(self, study: str) -> None:
        """Clear the place of a study that is damaged or of other settings; nobody else's file is touched."""
        final = self.output / study
        record = self._record(study)
        known = set(record["files"]) if record else set()
        strange = [
            path.relative_to(final).as_posix()
            for path in _files(final)
            if path.relative_to(final).as_posix() not in {RECORD, *known}
        ]
        if strange:
            raise OutputError(
                f"holds what medrecon did not write ({strange[0]})",
                path=final,
                remedy="move it away, or choose another output",
            )
        aside = self.state / _ASIDE / uuid.uuid4().hex
        aside.parent.mkdir(parents=True, exist_ok=True)
        final.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _record(self, study: str) -> dict[str, Any] | None:
        try:
            record = json.loads((self.output / study / RECORD).read_text(encoding="utf-8"))
            names = record["files"]
            safe = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in names)
            return record if safe and record["schema"] == SCHEMA and "row" in record else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def source_stamp(path: Path) -> str:
    """Names, sizes and times of a study's files, hashed: tells whether it is still what it was.

    Raises:
        ScanError: there is nothing.
    """
    digest = hashlib.sha256()
    for item in walk(path):
        if isinstance(item, Path):
            status = item.stat()
            digest.update(f"{item}|{status.st_size}|{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())
