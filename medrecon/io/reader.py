"""MONAI's way in: one reader for every format, whose refusal cannot be bypassed."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader

from medrecon.io.find import find_one, find_scans
from medrecon.io.read import ScanWarning, load
from medrecon.io.scan import ReadOptions, Scan, ScanError

ADDRESS = re.compile(r"^(?P<path>.*)#scan=(?P<key>[0-9a-f]{8})$", re.DOTALL)
_KNOWN: dict[str, Scan] = {}


def remember(scan: Scan) -> None:
    """Keep a scan by its address, so that `LoadImage` need not search again for what was found already."""
    if len(_KNOWN) > 1024:
        _KNOWN.clear()
    _KNOWN[os.fspath(scan)] = scan


class ScanReader(ImageReader):
    """Read DICOM series, NIfTI, NRRD and MHA as (X, Y, Z) in stored units with a RAS affine.

    Use as `LoadImage(reader=ScanReader())` or `LoadImaged(reader="medrecon.io.ScanReader")`. A path, a list of
    the files of one series, a `Scan`, or the address `path#scan=KEY` that a `Scan` is as a path.

    Args:
        series: as in `find_scans`, as the other arguments.
    """

    def __init__(self, series: str | None = None, volume: int | None = None, **options: Any) -> None:
        super().__init__()
        self.series, self.volume, self.options = series, volume, options

    def verify_suffix(self, filename: Any) -> bool:
        """Whether to try: always, since a refusal must reach the user."""
        return True

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Find the scan; never raises, because MONAI would then try another reader."""
        try:
            return self._find(data)
        except Exception as error:
            return error

    def _find(self, data: Any) -> Scan:
        if isinstance(data, Scan):
            return data
        if isinstance(data, (list, tuple)) and len(data) == 1:
            return self._find(data[0])
        if isinstance(data, (str, os.PathLike)):
            address = ADDRESS.match(os.fspath(data))
            if address:
                known = _KNOWN.get(os.fspath(data))
                return (
                    known
                    if known is not None
                    else _by_key(Path(address["path"]), address["key"], self.options)
                )
        return find_one(data, series=self.series, volume=self.volume, **self.options)

    def get_data(self, img: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """The voxels (X, Y, Z) as a tensor, and meta.

        Raises:
            ScanError: the scan is refused.
        """
        if isinstance(img, (list, tuple)) and len(img) == 1:
            img = img[0]
        if isinstance(img, ScanError):
            raise img
        if isinstance(img, Exception):
            raise ScanError(f"cannot be read ({type(img).__name__}: {img})", remedy="report it") from img
        volume, notes = load(img)
        for note in notes:
            warnings.warn(f"{img.path}: {note}", ScanWarning, stacklevel=2)
        return _tensor(volume), scan_meta(img, notes)


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
        "scan_path": str(scan.path),
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
    return _by_key(path, str(meta["scan_key"]), vars(options), None if volume < 0 else volume)


def _by_key(path: Path, key: str, options: Mapping[str, Any], volume: int | None = None) -> Scan:
    given = {("nifti_form" if k == "form" else k): v for k, v in options.items()}
    for scan in find_scans(path, volume=volume, **given).scans:
        if scan.key == key:
            return scan
    raise ScanError(f"no scan with the key {key}", path=path, remedy="the source was moved or changed")


def _tensor(volume: np.ndarray) -> torch.Tensor:
    """As a tensor, without a copy; unsigned 16 and 32 bit, which torch hardly knows, in the next wider type."""
    wider = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.uint64): np.float64}
    return torch.from_numpy(volume.astype(wider[volume.dtype]) if volume.dtype in wider else volume)
