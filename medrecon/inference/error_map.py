"""Error maps: a result that was written, minus its source, as a file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from medrecon.inference.maps import check_map_places, write_map
from medrecon.inference.record import Record
from medrecon.io import Derivation, Written, find_one, read_scan
from medrecon.io.dicom.writing.parametric_map import ERROR
from medrecon.io.formats import split_ending
from medrecon.reconstructor import INPUT

_SERIES = 50  # added to a source's series number, with the result's: far from those of the results


def error_map_path(output: Path) -> Path:
    """`CT_level3_error.dcm` of a series folder `CT_level3`, `t1_error.nii.gz` of a file `t1.nii.gz`."""
    stem, ending = split_ending(output.name)
    return output.with_name(f"{stem}_error{ending or '.dcm'}")


def check_error_maps(outputs: Iterable[Path], *, overwrite: bool = False) -> None:
    """Refuse before any work what could not be written after it.

    Args:
        outputs: where results go.
        overwrite: error maps that exist may be replaced.

    Raises:
        OutputError: one exists.
        UsageError: highdicom, which writes them for DICOM, is not installed.
    """
    places = [error_map_path(output) for output in outputs]
    check_map_places(places, "error maps of a DICOM series need", overwrite=overwrite)


def write_error_maps(
    record: Record, derivations: Mapping[str, Derivation], *, overwrite: bool = False
) -> list[Written]:
    """Write result minus source, in the source's units: a Parametric Map for a series, else a float32 volume.

    Args:
        record: of a scan whose results are written; "input" has no error and gets no map.
        derivations: result -> how it was made.
        overwrite: replace what is there.

    Raises:
        OutputError: one cannot be written.
        ScanError: source or result cannot be read any more.
    """
    scan, made = record.scan, []
    source = read_scan(scan).astype(np.float32)
    for number, (result, output) in enumerate(record.outputs.items(), start=1):
        if result == INPUT or result not in derivations:  # what was drawn has none
            continue
        error = read_scan(find_one(output)).astype(np.float32) - source
        made.append(
            write_map(
                error,
                scan,
                error_map_path(output),
                result=f"{result} error",
                quantity=ERROR,
                derivation=derivations[result],
                series_offset=_SERIES + number,
                overwrite=overwrite,
            )
        )
    return made
