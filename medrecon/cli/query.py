"""The options that say which studies and series of a PACS are meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from medrecon.cli.declare import option
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.pacs.address import Address
    from medrecon.pacs.query import Query


_choice = partial(option, panel="Which studies")


@dataclass(frozen=True)
class Which:
    """Which studies and series of a PACS."""

    patient: Annotated[str, _choice("--patient ID", "Patient ID (* and ?).")] = ""
    date: Annotated[
        str,
        _choice("--date DAY[-DAY]", "Day of the study, such as 20260131, 20260101-20260131 or 20260101-."),
    ] = ""
    modality: Annotated[str, _choice("--modality NAME", "Such as CT or MR.")] = ""
    description: Annotated[
        str,
        _choice(
            "--description TEXT", "Description of the series or study (* and ?; letter case does not count)."
        ),
    ] = ""
    study: Annotated[str, _choice("--study UID", "Study Instance UID.")] = ""
    series: Annotated[str, _choice("--series UID", "Series Instance UID.")] = ""
    limit: Annotated[int, _choice("--limit N", "Refuse a query that more studies match.", min=1)] = 100

    def query(self, at: Address) -> Query:
        """The same as a query, with the UIDs of an address.

        Raises:
            UsageError: the address names other UIDs.
        """
        from medrecon.pacs.query import Query

        return Query(
            study=_once("--study", at.study, self.study),
            series=_once("--series", at.series, self.series),
            patient=self.patient,
            date=self.date,
            modality=self.modality,
            description=self.description,
        )


def _once(option: str, in_address: str, given: str) -> str:
    if in_address and given and in_address != given:
        raise UsageError(f"two UIDs are given, one by {option}", remedy="give one of them")
    return in_address or given
