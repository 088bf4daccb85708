"""An instance arrives: checked, on the disk, in the queue, and only then acknowledged."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from medrecon.errors import OutputError
from medrecon.io.dicom.reading.kinds import IMAGES
from medrecon.io.files.atomic import PRIVATE, write_whole
from medrecon.pacs.address import checked_uid
from medrecon.pacs.equal import same_object
from medrecon.pacs.local import file_name
from medrecon.pacs.node.queue import Queue
from medrecon.pacs.node.settings import Settings
from medrecon.pacs.query import text_of

OK, NOT_OURS, DUPLICATE, NO_ROOM, UNREADABLE = 0x0000, 0x0122, 0x0111, 0xA700, 0xC000
"""Status of C-STORE (PS3.4 table B.2-1, PS3.7 annex C) and failure reason of STOW-RS (PS3.18 10.5.1.2)."""

_GIB, _MIB = 1 << 30, 1 << 20
_BEFORE_META = 128 + 4 + 12
"""Preamble, "DICM" and the element that holds the length of the meta information."""

_HEADER = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")


class Intake:
    """Where instances of all ways in come together.

    Args:
        settings: of the node.
        spool: its folder, the user's alone.
        queue: its queue.

    Attributes:
        received, received_bytes, refused: what has arrived since the start.
    """

    def __init__(self, settings: Settings, spool: Path, queue: Queue) -> None:
        self._settings, self._spool, self._queue = settings, spool, queue
        self._lock = threading.Lock()
        self.received = self.received_bytes = self.refused = 0

    def folder(self, series: str) -> Path:
        """Where the instances of a series lie."""
        return self._spool / "series" / hashlib.sha256(series.encode()).hexdigest()[:16]

    @property
    def has_room(self) -> bool:
        """Whether there is disk for more."""
        return shutil.disk_usage(self._spool).free >= self._settings.min_free_gib * _GIB

    def files(self, series: str) -> list[Path]:
        """The instances of a series that were acknowledged and are kept."""
        return [self.folder(series) / file_name(uid) for uid in self._queue.instances(series)]

    def take(self, data: bytes, calling: str) -> int:
        """Take an instance in.

        Args:
            data: a DICOM file (PS3.10).
            calling: the AE title that sent it; "" over HTTP.

        Returns:
            `OK`, once it is on the disk and in the queue, or why it is not taken.
        """
        status = self._take(data, calling)
        with self._lock:
            if status == OK:
                self.received += 1
                self.received_bytes += len(data)
            else:
                self.refused += 1
        return status

    def _take(self, data: bytes, calling: str) -> int:
        if len(data) > self._settings.max_instance_mib * _MIB or not self.has_room:
            return NO_ROOM
        header = _header(data)
        if header is None:
            return UNREADABLE
        if text_of(header, "SOPClassUID") not in IMAGES:
            return NOT_OURS
        series, uid = text_of(header, "SeriesInstanceUID"), text_of(header, "SOPInstanceUID")
        digest = hashlib.sha256(data[_start(header) :]).hexdigest()
        place = self.folder(series) / file_name(uid)
        with self._lock:
            known = self._queue.known(series, uid)
            if known is not None and place.is_file():
                same = known == digest or same_object(dcmread(place), dcmread(BytesIO(data)))
                return OK if same else DUPLICATE
            try:
                write_whole(place, data, mode=PRIVATE)
            except OutputError:
                return NO_ROOM
            self._queue.add(
                series,
                uid,
                digest,
                study=text_of(header, "StudyInstanceUID"),
                calling=calling,
                modality=text_of(header, "Modality"),
                now=time.time(),
            )
        return OK

    def discard(self, series: str) -> None:
        """Remove the files of a series that has ended, unless something of it has come meanwhile."""
        with self._lock:
            if self._queue.forget(series):
                shutil.rmtree(self.folder(series), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed node left of series that the queue does not know (any more)."""
        with self._lock:
            kept = {self.folder(series) for series in self._queue.series()}
            for folder in (self._spool / "series").glob("*"):
                if folder not in kept:
                    shutil.rmtree(folder, ignore_errors=True)


def _start(header: Dataset) -> int:
    """Where the data set of a file begins: what is before it, the sender's own software writes."""
    length = header.get("file_meta", Dataset()).get("FileMetaInformationGroupLength")
    return 0 if length is None else _BEFORE_META + int(length)


def _header(data: bytes) -> Dataset | None:
    """Its UIDs; None for what is no instance that could be filed."""
    try:
        header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(_HEADER))
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            checked_uid(text_of(header, keyword))
    except Exception:  # whatever a broken header can raise
        return None
    return header
