"""Some slices of a scan as a scan of their own, to which a result of just these is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medrecon.errors import UsageError
from medrecon.io.find import find_one
from medrecon.io.scan import Scan, ScanError


def parse_slices(text: str, count: int) -> range:
    """The slices that a user asks for: "10:20" (10 to 19), ":5", "30:", "-3:" as Python has them, or "7".

    Args:
        text: what was typed.
        count: slices of the scan.

    Raises:
        UsageError: not of that form, or no slice of the scan.
    """
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first else 0
        stop = (int(last) if last else count) if colon else start + 1 or count
        if not colon and not first:
            raise ValueError
    except ValueError:
        raise UsageError(f"--slices '{text}' is no range", remedy="write it as 10:20, or one as 10") from None
    chosen = range(*slice(start, stop).indices(count))
    if not chosen or (not colon and not -count <= start < count):
        raise UsageError(
            f"--slices {text} holds none of the {count} slices", remedy=f"count from 0 to {count - 1}"
        )
    return chosen


def take_slices(scan: Scan, chosen: range) -> Scan:
    """A scan of neighbouring slices (along the last axis) of another, at their place in space.

    It is what a result of these slices is written to; its voxels are those of the whole scan, cut by the
    caller. The key stays, so that it is known where it comes from.

    Args:
        scan: the whole.
        chosen: which slices, one after the other.

    Raises:
        UsageError: the slices of this DICOM source are not files of their own, or were resampled.
        ScanError: the files do not make the same slices any more.
    """
    if chosen == range(scan.shape[2]):
        return scan
    affine = scan.affine.copy()
    affine[:3, 3] = (scan.affine @ [0, 0, chosen.start, 1])[:3]
    shape = (scan.shape[0], scan.shape[1], len(chosen))
    if scan.format != "dicom":
        return replace(scan, shape=shape, affine=affine)
    if len(scan.files) != scan.shape[2] or scan.recipe.resampling is not None:
        raise UsageError(
            "some of its slices cannot be written as a series: they are no files of their own",
            path=scan.path,
            remedy="leave --slices out",
        )
    part = find_one(
        scan.files[chosen.start : chosen.stop],
        max_bytes=scan.options.max_bytes,
        accept=(*scan.options.accept, *(["frames"] if scan.recipe.frame_of_reference else [])),
    )
    # One slice alone does not tell the way to the next.
    seen = slice(None) if len(chosen) > 1 else [0, 1, 3]
    if part.shape != shape or not np.allclose(part.affine[:, seen], affine[:, seen], atol=1e-3):
        raise ScanError(
            "its slices alone do not lie where they did", path=scan.path, remedy="leave --slices out"
        )
    part = replace(part, path=scan.path, key=scan.key, volume=scan.volume, notes=scan.notes)
    part = replace(part, named_from_source=scan.named_from_source)
    return replace(part, modality=scan.modality, units=scan.units)
