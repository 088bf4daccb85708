"""The one place that chooses the writer of a result: by the name of the file; a folder is a DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medrecon.io.dicom.writing.writer import DicomSeriesWriter
from medrecon.io.files.outputs import Written
from medrecon.io.formats import format_named, writer_of
from medrecon.io.result_writer import ResultWriter
from medrecon.io.scan import Scan


def write_volume(
    volume: np.ndarray, scan: Scan, target: Path, *, number: int = 1, synthetic: str = "", **options: Any
) -> Written:
    """Write one result of a scan, in the format that its place names.

    Args:
        volume: (X, Y, Z) in the source's units, on its grid.
        scan: the source.
        target: from `plan_outputs`.
        number: of the result, counted from 1: tells the series of one source apart.
        synthetic: SyntheticData of a DICOM series, see `DicomSeriesWriter`.
        **options: `derivation`, `overwrite` and `result`, as for each writer.

    Raises:
        OutputError: it cannot be written.
    """
    kind = format_named(target)
    writer: ResultWriter = (
        writer_of(kind)(**options)
        if kind
        else DicomSeriesWriter(**options, series_offset=number, synthetic=synthetic)
    )
    writer.set_data_array(volume, channel_dim=None)
    writer.set_scan(scan)
    return writer.write(target)
