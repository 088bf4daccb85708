"""A source or an output that lies in a PACS: `reconstruct pacs:NAME/STUDY pacs:NAME` does all three."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from medrecon.cli.options import OutputFormat
from medrecon.cli.pacs import Pacs, pull_each, push_files
from medrecon.cli.session import Session
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.inference.record import Record
    from medrecon.pacs.address import Address


class Remote(AbstractContextManager["Remote"]):
    """The local folders that stand in for what lies in a PACS, until the verb ends.

    They are in a folder of the user's cache that is theirs alone (0700). It goes when all went well; when
    something fails, what was pulled stays, and the same command goes on from there.

    Args:
        session: where words go.
        source, output: as the user names them; both, one or neither begin with `pacs:`.
        pacs: which PACS are known.
        output_format: a PACS takes DICOM.

    Attributes:
        source, output: where to read, and to write, instead.
        in_pacs: whether the output lies in a PACS.

    Raises:
        UsageError: an address is none, its node is unknown, or it does not suit the format.
        ArchiveError: the source cannot be pulled, or the output's node does not answer.
    """

    def __init__(
        self, session: Session, source: Path, output: Path, pacs: Pacs, output_format: OutputFormat
    ) -> None:
        from medrecon.pacs.address import Address, is_address

        self.source, self.output = source, output
        self._session, self._pacs = session, pacs
        self._cache = _cache(f"{source}\n{output}\n{pacs.pacs}")
        self.in_pacs = is_address(output)
        self._to, self._whole = "", False
        if self.in_pacs:
            self._to = _node_of(Address.parse(output), output_format)
            with pacs.connect(session, self._to) as archive:
                archive.echo()
            self.output = self._cache / "derived"
            shutil.rmtree(self.output, ignore_errors=True)
        if is_address(source):
            self.source = self._pull(Address.parse(source))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._whole:
            shutil.rmtree(self._cache, ignore_errors=True)

    def _pull(self, address: Address) -> Path:
        """Pull a study without what medrecon derived from it, or one series."""
        from medrecon.pacs.derived import is_derived
        from medrecon.pacs.query import Query
        from medrecon.pacs.series import find_series

        if not address.study:
            raise UsageError(
                f"'{address}' names no study",
                remedy="write pacs:NAME/STUDY[/SERIES]; `medrecon pull` lists them",
            )
        folder = self._cache / "source"
        _make_private(self._cache)
        with self._pacs.connect(self._session, address.node) as archive:
            wanted = find_series(archive, Query(study=address.study, series=address.series))
            if not address.series:
                wanted = [each for each in wanted if not is_derived(archive, each)]
            if not wanted:
                raise archive.error(
                    "has no such study or series", "see what it has with `medrecon pull --list`"
                )
            _, faults = pull_each(self._session, archive, wanted, folder)
            if faults:
                raise archive.error(
                    f"{len(faults)} of {len(wanted)} series could not be pulled", "the same command goes on"
                )
        return folder

    def deliver(self, records: list[Record], *, whole: bool) -> list[Record]:
        """Push what was written.

        Args:
            records: of the scans that went well.
            whole: nothing failed, so that the local folders may go.

        Returns:
            The records, whose outputs are addresses now where they were pushed.

        Raises:
            Undelivered: the PACS does not take it.
        """
        from medrecon.pacs.address import Address

        if self.in_pacs and records:
            outputs = [path for record in records for path in record.outputs.values()]
            with self._pacs.connect(self._session, self._to) as archive:
                pushed = push_files(self._session, archive, outputs)
            where: dict[Path, Path] = {}
            for each in pushed:
                address = Path(str(Address(self._to, each.series.study, each.series.uid)))
                for file in each.series.files.values():
                    where[file] = where[file.parent] = address
            records = [
                replace(record, outputs={name: where[path] for name, path in record.outputs.items()})
                for record in records
            ]
        self._whole = whole
        return records


def _node_of(address: Address, output_format: OutputFormat) -> str:
    if address.study:
        raise UsageError(
            f"'{address}' names a study",
            remedy=f"write pacs:{address.node}: results go to their source's study",
        )
    if output_format not in (OutputFormat.same, OutputFormat.dicom):
        raise UsageError(
            f"a PACS takes no {output_format.value}", remedy="leave --format out, or name a folder"
        )
    return address.node


def _cache(what: str) -> Path:
    """A folder for this command: the same one the next time it is given."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home else Path.home() / ".cache"
    return base / "medrecon" / "pacs" / hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:16]


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
