"""What medrecon has made itself: told from an object, or from one instance of a series in a PACS."""

from __future__ import annotations

from io import BytesIO

from pydicom import Dataset, dcmread

from medrecon.io.dicom.writing.provenance import SCHEME
from medrecon.pacs.archive import Archive
from medrecon.pacs.series import SeriesInfo

MARKS = ("DerivationCodeSequence", "Manufacturer")


def is_ours(header: Dataset) -> bool:
    """Whether medrecon made an object: a slice of a derived series, or a Parametric Map."""
    codes = header.get("DerivationCodeSequence") or []
    coded = any(item.get("CodingSchemeDesignator") == SCHEME for item in codes)
    return coded or header.get("Manufacturer") == "medrecon"


def is_derived(archive: Archive, series: SeriesInfo) -> bool:
    """Whether medrecon made a series; one instance of it is fetched.

    Raises:
        ArchiveError: the PACS does not answer.
    """
    ours: list[bool] = []

    def look(data: bytes) -> None:
        ours.append(is_ours(dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(MARKS))))

    listed = archive.instances(series.study, series.uid)
    for uid, kind in list(listed.items())[:1]:
        archive.fetch(series.study, series.uid, {uid: kind}, whole=len(listed) == 1, keep=look)
    return any(ours)
