"""A map beside a result: a Parametric Map for a series, else a volume of floats in the result's format."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.errors import UsageError
from medrecon.io import Derivation, Written, write_parametric_map, write_volume
from medrecon.io.dicom.writing.parametric_map import Quantity
from medrecon.io.files.outputs import hash_file
from medrecon.io.files.publish import check_free
from medrecon.io.scan import Scan
from medrecon.io.value_form import ValueForm


def check_map_places(places: Sequence[Path], need: str, *, overwrite: bool = False) -> None:
    """Refuse before any work what could not be written after it.

    Args:
        places: of maps, and of what is written with them.
        need: "error maps need", for who lacks highdicom.
        overwrite: what exists may be replaced.

    Raises:
        OutputError: one exists.
        UsageError: highdicom, which writes maps for DICOM, is not installed.
    """
    for place in places:
        check_free(place, overwrite)
    if any(place.suffix == ".dcm" for place in places) and importlib.util.find_spec("highdicom") is None:
        raise UsageError(f"{need} highdicom", remedy="install it with: pip install 'medrecon[dicom]'")


def write_map(
    values: np.ndarray,
    scan: Scan,
    place: Path,
    *,
    result: str,
    quantity: Quantity,
    derivation: Derivation,
    series_offset: int,
    overwrite: bool = False,
) -> Written:
    """Write a map in the source's units, as its place is named.

    Args:
        values: (X, Y, Z), float32, on the source's grid.
        scan: the source.
        place: a `.dcm` file, or one of a volume.
        result: name of the map, for the record.
        quantity: what the values are.
        derivation: how the result was made that it belongs to.
        series_offset: added to a hundred times the source's SeriesNumber.
        overwrite: replace what is there.

    Raises:
        OutputError: it cannot be written.
    """
    if place.suffix == ".dcm":
        write_parametric_map(
            values,
            scan,
            place,
            derivation=derivation,
            quantity=quantity,
            series_offset=series_offset,
            overwrite=overwrite,
        )
        digest = {place.name: hash_file(place)}
        return Written(place, scan.key, result, "dicom", "float32", 0, (), digest)
    as_floats = replace(scan, stored=ValueForm(np.dtype(np.float32)))
    return write_volume(values, as_floats, place, derivation=derivation, overwrite=overwrite, result=result)
