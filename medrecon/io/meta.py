"""What a tensor carries of its scan, and the way from there back to the source."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from medrecon.io.choices import with_hu
from medrecon.io.find import Source, find_scans
from medrecon.io.scan import Found, ReadOptions, Scan, ScanError

ADDRESS = re.compile(
    r"^(?P<path>.*)#scan=(?P<key>[0-9a-f]{8})(?:&volume=(?P<volume>\d+))?(?:&options=(?P<options>[^&#]*))?$",
    re.DOTALL,
)


def scan_at(address: str) -> Scan | None:
    """The scan with this address, as `Scan.__fspath__` gives it; None if it is a plain path.

    Raises:
        ScanError: it is not there any more, or is refused.
    """
    match = ADDRESS.match(address)
    if match is None or os.path.lexists(address):
        return None
    volume = None if match["volume"] is None else int(match["volume"])
    path = Path(match["path"])
    try:
        options = ReadOptions.from_text(unquote(match["options"] or ""))
    except (AttributeError, TypeError, ValueError):
        raise ScanError("its options are broken", path=path, remedy="name the scan's path") from None
    return _with_key(find_again(path, options, volume), match["key"], path)


def find_again(source: Source, options: ReadOptions, volume: int | None = None) -> Found:
    """Find scans with the options that they were found with before; headers only.

    Raises:
        ScanError: as `find_scans`.
    """
    given = asdict(options)
    hu = given.pop("hu")
    found = find_scans(source, volume=volume, **given)
    return replace(found, scans=tuple(map(with_hu, found.scans))) if hu else found


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
        "scan_files": _names(scan),
        "scan_options": scan.options.to_text(),
        "series_uid": scan.series_uid,
        "description": scan.description,
        "volume": -1 if scan.volume is None else scan.volume,
        "notes": "\n".join((*scan.notes, *notes)),
    }


def scan_of(meta: Mapping[str, Any]) -> Scan:
    """Find the source again from the meta of a tensor that `ScanReader` loaded; headers of its files alone.

    Raises:
        ScanError: it is not there any more, or is refused now.
    """
    number = int(meta.get("volume", -1))
    volume = None if number < 0 else number
    options = ReadOptions.from_text(str(meta.get("scan_options", "")))
    path = Path(str(meta.get("scan_path") or meta["filename_or_obj"]))
    shape = tuple(int(n) for n in np.asarray(meta["spatial_shape"]).ravel())
    files = [path / name for name in json.loads(str(meta.get("scan_files") or "[]"))]
    if not files:
        scan = _with_key(find_again(path, options, volume), str(meta["scan_key"]), path)
    else:
        # slices that are files of their own: those of one volume hold no other
        alone = len(files) == shape[2] or (options.resample and len(files) > 1)
        found = find_again(files, options, None if alone else volume)
        scan = found.scans[0]
        if len(found.scans) > 1 or scan.series_uid != meta["series_uid"]:
            raise ScanError("holds another series now", path=path, remedy="the source was moved or changed")
        scan = replace(scan, path=path, key=str(meta["scan_key"]), volume=volume)
    if shape != scan.shape:
        raise ScanError(f"is {scan.shape} now, {shape} was read", path=path, remedy="give the whole series")
    if not np.allclose(np.asarray(meta["original_affine"]), scan.affine, atol=1e-3):
        raise ScanError("lies elsewhere now", path=path, remedy="the source was moved or changed")
    return scan


def _names(scan: Scan) -> str:
    """The files of a DICOM series as JSON, from its folder; one file names itself."""
    if scan.format != "dicom":
        return "[]"
    folder = scan.path.absolute()
    return json.dumps([os.path.relpath(file.absolute(), folder) for file in scan.files])


def _with_key(found: Found, key: str, path: Path) -> Scan:
    for scan in found.scans:
        if scan.key == key:
            return scan
    raise ScanError(f"no scan with the key {key}", path=path, remedy="the source was moved or changed")
