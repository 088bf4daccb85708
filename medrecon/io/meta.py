"""What a tensor carries of its scan, and the way from there back to the source."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.io.find import find_scans
from medrecon.io.scan import ReadOptions, Scan, ScanError

ADDRESS = re.compile(r"^(?P<path>.*)#scan=(?P<key>[0-9a-f]{8})(?:,(?P<volume>\d+))?$", re.DOTALL)
_KNOWN: dict[str, Scan] = {}


def remember(scan: Scan) -> None:
    """Keep a scan by its address, so that `LoadImage` need not search again for what was found already."""
    if len(_KNOWN) > 1024:
        _KNOWN.clear()
    _KNOWN[os.fspath(scan)] = scan


def scan_at(address: str, options: Mapping[str, Any]) -> Scan | None:
    """The scan with this address (`path#scan=KEY`); None if it is a plain path.

    Raises:
        ScanError: it is not there any more, or is refused.
    """
    match = ADDRESS.match(address)
    if match is None or os.path.lexists(address):
        return None
    known = _KNOWN.get(address)
    if known is not None:
        return known
    volume = None if match["volume"] is None else int(match["volume"])
    return _by_key(Path(match["path"]), match["key"], options, volume)


def scan_meta(scan: Scan, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What a MetaTensor carries of a scan: plain values that survive MONAI's collate and decollate."""
    return {
        "affine": scan.affine.copy(),
        "original_affine": scan.affine.copy(),
        "space": "RAS",
        "spatial_shape": np.asarray(scan.shape),
        "original_channel_dim": "no_channel",
        "filename_or_obj": str(scan.path),
        "modality": scan.modality,
        "units": scan.units,
        "scan_key": scan.key,
        "scan_path": str(scan.path.absolute()),
        "scan_options": scan.options.to_text(),
        "series_uid": scan.series_uid,
        "description": scan.description,
        "volume": -1 if scan.volume is None else scan.volume,
        "notes": "\n".join((*scan.notes, *notes)),
    }


def scan_of(meta: Mapping[str, Any]) -> Scan:
    """Find the source again from the meta of a tensor that `ScanReader` loaded; headers only.

    Raises:
        ScanError: it is not there any more, or is refused now.
    """
    volume = int(meta.get("volume", -1))
    options = ReadOptions.from_text(str(meta.get("scan_options", "")))
    path = Path(str(meta.get("scan_path") or meta["filename_or_obj"]))
    scan = _by_key(path, str(meta["scan_key"]), vars(options), None if volume < 0 else volume)
    shape = tuple(int(n) for n in np.asarray(meta.get("spatial_shape", scan.shape)).ravel())
    if shape != scan.shape:
        raise ScanError(f"is {scan.shape} now, {shape} was read", path=path, remedy="give the whole series")
    return scan


def _by_key(path: Path, key: str, options: Mapping[str, Any], volume: int | None = None) -> Scan:
    given = {("nifti_form" if k == "form" else k): v for k, v in options.items()}
    found = find_scans(path, volume=volume, **given)
    for scan in found.scans:
        if scan.key == key:
            return scan
    raise ScanError(f"no scan with the key {key}", path=path, remedy="the source was moved or changed")
