"""What is asked of a PACS; answers are checked against it, since servers pass over keys they do not know."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.multival import MultiValue

from medrecon.errors import UsageError
from medrecon.pacs.address import checked_uid


@dataclass(frozen=True)
class Query:
    """Which studies and series; what is "" is not asked for. `*` and `?` stand for any text and character.

    Attributes:
        study, series: UIDs.
        patient: PatientID.
        date: of the study: "20240131", "20240101-20240131", "20240101-" or "-20240131".
        modality: of the series, such as "CT".
        description: of the series or the study; letter case does not count.
    """

    study: str = ""
    series: str = ""
    patient: str = ""
    date: str = ""
    modality: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        for uid in filter(None, (self.study, self.series)):
            checked_uid(uid)
        _days(self.date)
        if "\\" in "".join((self.patient, self.modality, self.description)):
            raise UsageError("a query holds a backslash", remedy="ask for one value at a time")

    @property
    def is_open(self) -> bool:
        """Whether it would match all that a PACS has."""
        narrow = (self.study, self.series, self.date, self.modality)
        return not any(narrow) and not any(text.strip("*?") for text in (self.patient, self.description))

    @property
    def study_keys(self) -> dict[str, str]:
        """Keys of a study-level query (PS3.4 C.6.2.1.2) that servers must know."""
        keys = {
            "StudyInstanceUID": self.study,
            "PatientID": self.patient,
            "StudyDate": self.date,
            "ModalitiesInStudy": self.modality,
        }
        return {key: value for key, value in keys.items() if value}

    def wants_study(self, study: Dataset) -> bool:
        """Whether a study, as the PACS describes it, is what was asked for."""
        first, last = _days(self.date)
        day = text_of(study, "StudyDate")
        return (
            self.study in ("", text_of(study, "StudyInstanceUID"))
            and _matches(self.patient, text_of(study, "PatientID"))
            and (not self.date or first <= day <= last)
        )

    def wants_series(self, series: Dataset, study: Dataset) -> bool:
        """Whether a series of such a study is."""
        descriptions = (text_of(series, "SeriesDescription"), text_of(study, "StudyDescription"))
        return (
            self.series in ("", text_of(series, "SeriesInstanceUID"))
            and _matches(self.modality.upper(), text_of(series, "Modality").upper())
            and any(_matches(self.description.lower(), text.lower()) for text in descriptions)
        )


def text_of(dataset: Dataset, keyword: str) -> str:
    """An attribute of an answer as text; "" where it is missing, several values joined by a backslash."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return str(value).strip()


def _matches(pattern: str, text: str) -> bool:
    if not pattern:
        return True
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _days(date: str) -> tuple[str, str]:
    """The first and the last day of a range.

    Raises:
        UsageError: it is none.
    """
    first, dash, last = date.partition("-")
    days = [first, last if dash else first]
    for day in filter(None, days):
        try:
            valid = len(day) == 8 and datetime.strptime(day, "%Y%m%d")
        except ValueError:
            valid = False
        if not valid:
            raise UsageError(f"'{date}' is no date", remedy="write 20240131, or 20240101-20240131")
    if date and not any(days):
        raise UsageError(f"'{date}' is no date", remedy="write 20240131, or 20240101-20240131")
    if all(days) and days[0] > days[1]:
        raise UsageError(f"{days[0]} is after {days[1]}", remedy="write the earlier day first")
    return days[0] or "0", days[1] or "9"
