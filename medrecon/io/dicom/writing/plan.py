"""What all images of one derived series share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np
from pydicom import DataElement
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID

from medrecon.io.derivation import Derivation
from medrecon.io.dicom.writing.stored_values import Encoded


def _now() -> datetime:
    """The time; SOURCE_DATE_EPOCH fixes it, so that the same run can give the same bytes."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return (
        datetime.fromtimestamp(int(fixed), timezone.utc) if fixed.isdigit() else datetime.now().astimezone()
    )


@dataclass
class SeriesPlan:
    """What all images of one derived series share.

    Attributes:
        derivation: how the result came to be.
        source_series: SeriesInstanceUID of the source, "" where it has none.
        source_id: that, or what else identifies the source.
        volume: which volume of the source, "" where there is only one.
        offset: added to a hundred times the source's SeriesNumber.
        encoded: the pixels.
        padding: stored value of PixelPaddingValue that still holds, None to leave it out.
        geometry: (4, 4) LPS affine where the grid is not the source's, else None.
        synthetic: value of SyntheticData, "" to leave it out.
        replaced: UIDs that the source lacks and that were made anew.
        now: the time of the series.
        image_type: of each image, once it is known.
        description: SeriesDescription, likewise.
        shared: elements that images share, by what they depend on.
        photometric: as in the source, since values are written as they were stored.
    """

    derivation: Derivation
    source_series: str
    source_id: str
    volume: str
    offset: int
    encoded: Encoded
    padding: int | None = None
    geometry: np.ndarray | None = None
    synthetic: str = ""
    photometric: str = "MONOCHROME2"
    replaced: set[str] = field(default_factory=set)
    now: datetime = field(default_factory=lambda: _now())
    image_type: tuple[str, ...] = ()
    description: str = ""
    shared: dict[tuple[object, ...], list[RawDataElement | DataElement]] = field(default_factory=dict)

    @property
    def uid(self) -> UID:
        """SeriesInstanceUID: one for each source series, volume and derivation."""
        return self.derivation.uid("series", self.source_id, self.volume)
