"""What a notebook shows of a scan: its middle slice as a small picture, and its header in one line."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation
from PIL import Image

from medrecon.errors import MedreconError
from medrecon.io.find import find_one
from medrecon.io.read import read_scan
from medrecon.io.scan import Scan
from medrecon.io.subset import take_slices

SOFT_TISSUE = (-160.0, 240.0)
"""HU shown black and white: level 40, width 400."""

_SIDE = 240  # pixels of a picture's longer side
_STYLE = "display:inline-block;margin:0 8px 8px 0;text-align:center;font:12px sans-serif"


def middle_slice(scan: Scan) -> np.ndarray:
    """(X, Y) of the slice in the middle of the last axis, in the scan's units; alone it is read quickly.

    Raises:
        ScanError: the scan cannot be read.
    """
    middle = scan.shape[2] // 2
    if scan.format == "dicom" and len(scan.files) == scan.shape[2] and scan.shape[2] > 1:
        with contextlib.suppress(MedreconError):  # of some series the slices only make sense together
            return read_scan(take_slices(scan, range(middle, middle + 1)))[..., 0]
    return read_scan(scan)[..., middle]


def picture(plane: np.ndarray, scan: Scan, window: tuple[float, float]) -> bytes:
    """A slice as PNG, as radiologists look at it: the patient's right on the left, front or head up.

    Args:
        plane: (X, Y) of the scan, in its units.
        scan: gives the directions and the spacing.
        window: values shown black and white.
    """
    horizontal, vertical = io_orientation(scan.affine)[:2]
    low, high = window
    grey = np.clip((plane.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1) * 255
    spacing = list(scan.spacing[:2])
    # RAS coordinates fall along a picture's rows and columns; of two axes the first lies flat.
    for axis, (_, sign) in enumerate((horizontal, vertical)):
        grey = np.flip(grey, axis) if sign > 0 else grey
    if horizontal[0] > vertical[0]:
        grey, spacing = grey.T, spacing[::-1]
    size = np.array(grey.shape) * spacing
    width, height = (int(n) for n in np.maximum(np.rint(size * _SIDE / size.max()), 1))
    stream = io.BytesIO()
    Image.fromarray(grey.T.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR).save(
        stream, "PNG"
    )
    return stream.getvalue()


def window_of(plane: np.ndarray, units: str) -> tuple[float, float]:
    """Soft tissue for HU, else the 0.5 to 99.5 percentile of a slice."""
    if units == "HU":
        return SOFT_TISSUE
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def describe(scan: Scan) -> str:
    """Modality, size, spacing and units in one line, without a name."""
    size = " x ".join(str(n) for n in scan.shape)
    spacing = " x ".join(f"{step:.3g}" for step in scan.spacing)
    said = f"{scan.modality or scan.format} {scan.key}: {size} voxels of {spacing} mm"
    return f"{said}, {scan.units}" if scan.units else said


def html_of(scan: Scan, results: Mapping[str, np.ndarray | Path] | None = None) -> str:
    """The middle slice of a scan, and of volumes on its grid, side by side in one window.

    Args:
        scan: the source.
        results: name -> (X, Y, Z), or where it was written.

    Returns:
        A piece of HTML with the pictures in it. What cannot be read is told in words: no error is raised.
    """
    try:
        planes = {"source": middle_slice(scan)}
        for name, volume in (results or {}).items():
            if isinstance(volume, Path):
                planes[name] = middle_slice(find_one(volume))
            else:
                planes[name] = volume[..., scan.shape[2] // 2]
        window = window_of(planes["source"], scan.units)
        cells = [
            f'<div style="{_STYLE}"><img alt="{escape(name)}" src="data:image/png;base64,'
            f'{base64.b64encode(picture(plane, scan, window)).decode()}"><br>{escape(name)}</div>'
            for name, plane in planes.items()
        ]
    except (MedreconError, OSError) as error:
        cells = [f"<p>{escape(str(error))}</p>"]
    return f"<div>{''.join(cells)}<div>{escape(describe(scan))}</div></div>"
