"""What every PACS can be asked, whatever it speaks: `DicomWebArchive` and `DimseArchive` answer alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from pydicom import Dataset

from medrecon.errors import MedreconError
from medrecon.pacs.nodes import Node

STUDY_FIELDS = (
    "StudyDate",
    "StudyDescription",
    "PatientID",
    "PatientName",
    "ModalitiesInStudy",
)
SERIES_FIELDS = ("Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances")

Keep = Callable[[bytes], None]
"""Gets an instance as a DICOM file (PS3.10)."""


class ArchiveError(MedreconError):
    """A PACS cannot be reached, refuses, or answers what cannot be right."""

    exit_code = 3


class Archive(ABC):
    """A connection to one node, for a `with` statement.

    Args:
        node: where it is.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - not every connection has something to let go of
        """Let go of the connection."""

    def error(self, message: str, remedy: str) -> ArchiveError:
        """The error of this node, in one line."""
        return ArchiveError(f"pacs:{self.node.name}: {message}", remedy=remedy)

    @abstractmethod
    def echo(self) -> None:
        """See whether it answers.

        Raises:
            ArchiveError: it does not.
        """

    @abstractmethod
    def studies(self, keys: Mapping[str, str], most: int) -> list[Dataset]:
        """Studies that match, with `STUDY_FIELDS`; no more than `most` + 1 of them.

        Raises:
            ArchiveError: no answer that can be used.
        """

    @abstractmethod
    def series(self, keys: Mapping[str, str]) -> list[Dataset]:
        """All series that match, with `SERIES_FIELDS`; keys name a study, or a series.

        Raises:
            ArchiveError: no answer that can be used.
        """

    @abstractmethod
    def instances(self, study: str, series: str) -> dict[str, str]:
        """SOPInstanceUID -> SOPClassUID of all that a series has; empty where there is no such series.

        Raises:
            ArchiveError: no answer that can be used.
        """

    @abstractmethod
    def fetch(self, study: str, series: str, wanted: Mapping[str, str], *, whole: bool, keep: Keep) -> None:
        """Hand instances over, in any order, as they come; some may be missing.

        Args:
            study, series: where they are.
            wanted: SOPInstanceUID -> SOPClassUID.
            whole: they are all of the series.
            keep: gets each; what it raises ends the transfer and is raised here.

        Raises:
            ArchiveError: the transfer ended early, or nothing of it could be had.
        """

    @abstractmethod
    def store(self, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """Send DICOM files.

        Yields:
            Each file, with the reason why the node did not take it, or "".

        Raises:
            ArchiveError: the transfer ended early.
        """
