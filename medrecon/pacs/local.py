"""The local copy of a series: instance after instance while it is pulled, in its place when whole."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from medrecon.errors import OutputError, told_as
from medrecon.io.dicom.deidentify.files import deidentified, is_image
from medrecon.io.dicom.deidentify.header import Deidentifier
from medrecon.io.files.atomic import write_whole
from medrecon.io.files.lock import held
from medrecon.io.files.walk import PULLING
from medrecon.io.scan import ScanError

_IDENTITY = ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "AccessionNumber")
_HEADER = ("SOPInstanceUID", "SeriesInstanceUID", *_IDENTITY)


class WrongInstance(ValueError):
    """What arrived is no instance, or another one than was asked for."""


class LocalSeries:
    """One series on its way to a folder. Its files are called by a hash of their UID.

    Args:
        place: the folder that it gets when it is whole.
        study, series: its UIDs in the PACS.
        deidentifier: takes the identity out of each instance before it is written; images only.
    """

    def __init__(
        self, place: Path, study: str, series: str, deidentifier: Deidentifier | None = None
    ) -> None:
        self.place, self.study, self.series = place, study, series
        self.part = place.with_name(f".{place.name}{PULLING}")
        self._deidentifier = deidentifier

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs off.

        Raises:
            OutputError: another run pulls it, or nothing can be written there.
        """
        with held(self.place):
            if self.part.is_dir():
                for torn in self.part.glob(".*"):  # of a run that was killed
                    torn.unlink()
                if not self._suits(self.part):
                    self.discard()
            yield

    def taken(self, instances: Mapping[str, str]) -> dict[str, str]:
        """Those that the copy will hold: without identity, all that may be images."""
        if self._deidentifier is None:
            return dict(instances)
        return {uid: kind for uid, kind in instances.items() if not kind or is_image(kind)}

    def is_copy_of(self, instances: Mapping[str, str]) -> bool:
        """Whether the folder in its place holds just these instances, as they were to be."""
        return _names(self.place) == {self._file(uid) for uid in instances} and self._suits(self.place)

    def missing(self, instances: Mapping[str, str]) -> dict[str, str]:
        """Those that have not arrived."""
        there = _names(self.part)
        return {uid: kind for uid, kind in instances.items() if self._file(uid) not in there}

    def keep(self, data: bytes, wanted: Mapping[str, str]) -> None:
        """Take an instance in; one of the series that is not wanted yet is passed over.

        Raises:
            WrongInstance: it is of another series, or none, or its identity cannot be taken out.
            OutputError: it cannot be written.
        """
        try:
            header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(_HEADER))
            uid = str(header.SOPInstanceUID)
            home = (str(header.StudyInstanceUID), str(header.SeriesInstanceUID))
        except (InvalidDicomError, AttributeError, ValueError, EOFError, KeyError, NotImplementedError):
            raise WrongInstance("what is no DICOM instance") from None
        if home != (self.study, self.series):
            raise WrongInstance("an instance of another series")
        if uid not in wanted:
            return
        if self._deidentifier is not None:
            try:
                data = deidentified(data, self._deidentifier)
            except ScanError as error:
                raise WrongInstance(f"an instance that {error.message}") from None
        write_whole(self.part / self._file(uid), data)

    def identities(self) -> int:
        """How many different patients and studies the instances name; more than one is a fault."""
        seen = set()
        for path in self.part.iterdir():
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
            seen.add(tuple(str(header.get(keyword, "")) for keyword in _IDENTITY))
        return len(seen)

    def drop(self, instances: Mapping[str, str]) -> None:
        """Remove what has arrived and is not among these."""
        for name in _names(self.part) - {self._file(uid) for uid in instances}:
            (self.part / name).unlink()

    def discard(self) -> None:
        """Remove all that has arrived."""
        shutil.rmtree(self.part, ignore_errors=True)

    def finish(self) -> None:
        """Put it in its place, in one rename.

        Raises:
            OutputError: that cannot be done.
        """
        with told_as(OutputError, path=self.place):
            if self.place.exists():
                aside = self.part.with_name(f"{self.part.name}-old")
                shutil.rmtree(aside, ignore_errors=True)
                self.place.rename(aside)
                self.part.rename(self.place)
                shutil.rmtree(aside, ignore_errors=True)
            else:
                self.part.rename(self.place)

    def _file(self, uid: str) -> str:
        return file_name(uid if self._deidentifier is None else self._deidentifier.uid(uid))

    def _suits(self, folder: Path) -> bool:
        """Whether what a folder holds was made as this copy is to be."""
        first = next(iter(sorted(_names(folder))), None)
        if self._deidentifier is None or first is None:
            return True
        try:
            return self._deidentifier.suits(dcmread(folder / first, stop_before_pixels=True))
        except InvalidDicomError:
            return False


def file_name(uid: str) -> str:
    """The name of an instance's file, which holds no identity."""
    return f"{hashlib.sha256(uid.encode()).hexdigest()[:16]}.dcm"


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
