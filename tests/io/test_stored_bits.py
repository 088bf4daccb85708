"""Compressed images whose values need more bits than their header stores: refused, never other values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from medrecon.io import ScanError, find_one, read_scan

from .test_dicom_pixels import codec

Make = Callable[..., np.ndarray]

WIDER = {
    "one value of 13 bits": {"values": 5600},
    "signed stream of an unsigned image": {"values": -3, "kind": np.int16},
    "16 bits where 8 are allocated": {"values": 300, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    "a signed value of 13 bits": {"values": 2100, "kind": np.int16, "PixelRepresentation": 1},
    "between the bits stored and the sign": {"values": 0x9000, "PixelRepresentation": 1},
}


def holding(
    values: int, kind: type = np.uint16, syntax: str = "90", name: str = "j2k", **tags: int
) -> Callable[[Dataset, int], None]:
    """Compress an image of 100 with one other value."""

    def change(ds: Dataset, index: int) -> None:
        image = np.full((ds.Rows, ds.Columns), 100, kind)
        image[3, 4] = values
        encoded = (
            imagecodecs.jpeg2k_encode(image, level=0, reversible=True, codecformat="J2K")
            if name == "j2k"
            else codec(name, image)
        )
        ds.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{syntax}")
        ds.PixelData = encapsulate([encoded])
        for key, value in tags.items():
            setattr(ds, key, value)

    return change


@pytest.mark.parametrize("name", WIDER)
def test_values_of_more_bits_than_are_stored_are_no_others(
    name: str, tmp_path: Path, make_series: Make
) -> None:
    make_series(tmp_path / "ct", change=holding(**WIDER[name]))
    with pytest.raises(ScanError, match=rf"dcm: .* {WIDER[name]['values']}, which .* --accept bits"):
        read_scan(find_one(tmp_path / "ct"))
    values = read_scan(find_one(tmp_path / "ct", accept=["bits"]))
    assert values[0, 0, 0] == 100 - 1024


@pytest.mark.parametrize(
    ("stored", "change"),
    [
        (-5, holding(-5, np.int16, PixelRepresentation=1)),
        (-5, holding(0xFFFB, PixelRepresentation=1)),  # with the sign extended
        (-5, holding(0x0FFB, PixelRepresentation=1)),
        (-2048, holding(0xF800, name="ls", syntax="80", PixelRepresentation=1)),
        (4095, holding(4095)),
        (4095, holding(4107, syntax="91")),  # lossy compression overshoots
        (0, holding(-7, np.int16, syntax="91")),
        (2047, holding(2050, np.int16, syntax="203", PixelRepresentation=1)),
    ],
)
def test_values_at_the_ends_of_the_bits_stored(
    stored: int, change: Callable[[Dataset, int], None], tmp_path: Path, make_series: Make
) -> None:
    make_series(tmp_path / "ct", change=change)
    values = read_scan(find_one(tmp_path / "ct"))
    assert values[4, 3, 0] == stored - 1024
    assert values[0, 0, 0] == 100 - 1024
