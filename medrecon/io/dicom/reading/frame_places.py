"""Places of the frames of an image that says where its first one lies, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrecon.io.dicom.reading.header import REPAIR, Header
from medrecon.io.geometry import check_orientation
from medrecon.io.scan import ReadOptions, ScanError, or_accept


def frame_places(
    header: Header,
    first: Sequence[float],
    orientation: Sequence[float] | None,
    step: float,
    count: int,
    options: ReadOptions,
) -> list[tuple[float, ...]]:
    """A position (x, y, z) in mm for each frame; () where none is known and the user accepts that.

    Args:
        header: of the file.
        first: Image Position (Patient), () where it is missing.
        orientation: Image Orientation (Patient).
        step: from frame to frame in mm, 0 where nothing is said of it.
        count: of frames.
        options: what the user allows.

    Raises:
        ScanError: the orientation or the step is missing.
    """
    try:
        across = np.cross(*check_orientation(orientation, header.path)) * step
        if step <= 0:
            why = "neither Spacing Between Slices nor Slice Thickness"
            raise ScanError(why, path=header.path, remedy=REPAIR + or_accept("no-geometry"))
    except ScanError:
        if not options.accepts("no-geometry"):
            raise
        return [()] * count
    return [tuple(float(v) for v in np.asarray(first) + k * across) if first else () for k in range(count)]
