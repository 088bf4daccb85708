"""CT in files that cannot say so: values that run like HU, and what an earlier run was told of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medrecon.intensity_range import HU_WINDOW, intensity_range
from medrecon.io.scan import Scan

_AIR = (-1100, -900)
_FLOOR = -1024
_SHARE = 0.01  # of the voxels that are air or padding, at least
_SAMPLE = 1 << 20
_MANIFESTS, _LARGEST = 100, 16 << 20  # how many are looked at, and bytes of one


def runs_like_hu(volume: np.ndarray) -> bool:
    """Whether values look like a CT's: whole numbers, air near -1000 or a floor from -1024 down, tissue.

    Args:
        volume: (X, Y, Z), any units; about a million voxels of it are looked at.
    """
    step = max(1, round((volume.size / _SAMPLE) ** (1 / 3)))
    sample = volume[::step, ::step, ::step]
    low, high = float(sample.min()), float(sample.max())
    if not -32768 <= low < _AIR[1] or not 0 < high <= 32767 or not (sample == np.rint(sample)).all():
        return False
    dark = ((sample >= _AIR[0]) & (sample <= _AIR[1])) | (sample <= _FLOOR)
    bright = sample >= -_AIR[1]  # as much of it as of air: values around 0, such as phases
    return bool(dark.mean() >= max(_SHARE, 2 * bright.mean()))


def hu_note(scan: Scan, volume: np.ndarray) -> list[str]:
    """The line that names `--hu` where values run like HU and nobody said so, and what it changes."""
    if scan.units or scan.format == "dicom" or not runs_like_hu(volume):
        return []
    low, high = intensity_range(volume, "")
    return [
        f"values run like HU, from {volume.min():g} to {volume.max():g}: if this is a CT, add --hu. The "
        f"network then gets {HU_WINDOW[0]:g} to {HU_WINDOW[1]:g} HU, its range for CT, in place of {low:g} "
        f"to {high:g} (0.5 to 99.5 percentile), and errors are in HU"
    ]


def told_hu(scan: Scan, places: Iterable[Path]) -> Path | None:
    """The manifest of an earlier run that was told that this scan is a CT in HU; None if there is none.

    Args:
        scan: from a file that does not say so itself.
        places: folders that may hold manifests, or lie beside them.
    """
    if scan.units or scan.format == "dicom":
        return None
    for folder in dict.fromkeys(place for given in places for place in (given, given.parent)):
        if not folder.is_dir():
            continue
        for file in sorted(folder.glob("*manifest.json"))[:_MANIFESTS]:
            if _says_hu(file, scan.key):
                return file
    return None


def _says_hu(file: Path, key: str) -> bool:
    try:
        if file.stat().st_size > _LARGEST:
            return False
        inputs = json.loads(file.read_text("utf-8"))["inputs"]
        return any(item["key"] == key and item["units"] == "HU" for item in inputs)
    except (OSError, ValueError, KeyError, TypeError):
        return False
