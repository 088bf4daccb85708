"""What a PACS says it has: found and narrowed, before anything of it is fetched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydicom import Dataset

from medrecon.errors import UsageError
from medrecon.io.files.names import safe_name
from medrecon.pacs.archive import Archive
from medrecon.pacs.query import Query, text_of

LIMIT = 100


@dataclass(frozen=True)
class SeriesInfo:
    """One series, as the PACS describes it.

    Attributes:
        study, uid: StudyInstanceUID and SeriesInstanceUID.
        modality: such as "CT".
        description, study_description, date, patient_id, patient_name: texts that may hold identity.
        count: NumberOfSeriesRelatedInstances; None where the PACS does not say.
    """

    study: str
    uid: str
    modality: str = ""
    description: str = ""
    study_description: str = ""
    date: str = ""
    patient_id: str = ""
    patient_name: str = ""
    count: int | None = None

    @property
    def label(self) -> str:
        """A name without identity: `CT_1f2e3d4c`, with the key by which `medrecon scans` calls it."""
        return f"{safe_name(self.modality, 'series', 16)}_{code(f'{self.uid}|None')}"


def code(text: str) -> str:
    """Eight hexadecimal digits for a UID."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_series(archive: Archive, query: Query, limit: int = LIMIT) -> list[SeriesInfo]:
    """All series that a query asks for; nothing is fetched.

    Args:
        archive: which PACS.
        query: what is wanted.
        limit: of studies.

    Raises:
        UsageError: it would match all that the PACS has, or more studies than `limit`.
        ArchiveError: no answer that can be used.
    """
    if query.is_open:
        raise UsageError(
            "nothing says which studies are meant",
            remedy="name --study, --series, --patient, --date, --modality or --description",
        )
    if query.series and not query.study_keys:
        return _narrowed(query, Dataset(), archive.series({"SeriesInstanceUID": query.series}))
    studies = archive.studies(query.study_keys, limit)
    if len(studies) > limit:
        raise UsageError(
            f"pacs:{archive.node.name}: more than {limit} studies match",
            remedy="narrow it by --date, --patient or --modality, or raise --limit",
        )
    found: list[SeriesInfo] = []
    for study in studies:
        if query.wants_study(study):
            keys = {"StudyInstanceUID": text_of(study, "StudyInstanceUID")}
            found += _narrowed(query, study, archive.series(keys))
    return found


def _narrowed(query: Query, study: Dataset, series: list[Dataset]) -> list[SeriesInfo]:
    """Those of the series that are wanted, in the order of their numbers."""
    wanted = [each for each in series if query.wants_series(each, study)]
    wanted.sort(key=lambda each: (_count(each, "SeriesNumber") or 0, text_of(each, "SeriesInstanceUID")))
    return [
        SeriesInfo(
            study=text_of(each, "StudyInstanceUID") or text_of(study, "StudyInstanceUID"),
            uid=text_of(each, "SeriesInstanceUID"),
            modality=text_of(each, "Modality"),
            description=text_of(each, "SeriesDescription"),
            study_description=text_of(study, "StudyDescription"),
            date=text_of(study, "StudyDate"),
            patient_id=text_of(study, "PatientID"),
            patient_name=text_of(study, "PatientName"),
            count=_count(each, "NumberOfSeriesRelatedInstances"),
        )
        for each in wanted
    ]


def _count(dataset: Dataset, keyword: str) -> int | None:
    text = text_of(dataset, keyword)
    return int(text) if text.lstrip("-").isdigit() else None
