"""What is asked, and what of the answers is taken."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from medrecon.errors import UsageError
from medrecon.pacs.address import Address, is_address
from medrecon.pacs.query import Query


def made(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_addresses() -> None:
    assert Address.parse("pacs:a/1.2/1.3") == Address("a", "1.2", "1.3")
    assert Address.parse("a/1.2/") == Address("a", "1.2")
    assert str(Address("a", "1.2")) == "pacs:a/1.2"
    assert is_address("pacs:a")
    assert not is_address("/data/pacs:a")


@pytest.mark.parametrize(
    "text", ["pacs:", "", "a/b", "a/1.2/x", "a/1.2/1.3/1.4", "a/1.2/..", f"a/{'1.' * 40}1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


@pytest.mark.parametrize(
    "date", ["2024", "20241301", "20240101-2024", "-", "20240201-20240101", "2024-01-01", "today"]
)
def test_what_is_no_date_is_refused(date: str) -> None:
    with pytest.raises(UsageError):
        Query(date=date)


@pytest.mark.parametrize(
    ("asked", "day", "taken"),
    [
        ("20240131", "20240131", True),
        ("20240131", "20240130", False),
        ("20240101-20240131", "20240131", True),
        ("20240101-20240131", "20240201", False),
        ("20240101-", "20301231", True),
        ("-20240101", "20240102", False),
        ("20240101-", "", False),
    ],
)
def test_dates_of_answers_are_checked(asked: str, day: str, taken: bool) -> None:
    study = made(StudyInstanceUID="1.2")
    study.add_new("StudyDate", "DA", day)
    assert Query(date=asked).wants_study(study) is taken


def test_answers_that_were_not_asked_for_are_passed_over() -> None:
    study = made(StudyInstanceUID="1.2", PatientID="4711", StudyDescription="Thorax")
    assert Query(patient="47*").wants_study(study)
    assert Query(patient="[4]711").wants_study(study) is False
    assert Query(patient="4712").wants_study(study) is False
    assert Query(study="1.3").wants_study(study) is False
    series = made(SeriesInstanceUID="1.2.1", Modality="CT", SeriesDescription="Chest 1.0")
    assert Query(modality="ct").wants_series(series, study)
    assert Query(modality="MR").wants_series(series, study) is False
    assert Query(description="*chest*").wants_series(series, study)
    assert Query(description="thorax").wants_series(series, study)
    assert Query(description="head").wants_series(series, study) is False
    assert Query(series="1.2.2").wants_series(series, study) is False


def test_a_query_for_everything_is_known_as_one() -> None:
    assert Query().is_open
    assert Query(patient="*").is_open
    assert Query(description="??*").is_open
    assert not Query(modality="CT").is_open
    with pytest.raises(UsageError, match="one value at a time"):
        Query(patient="a\\b")
