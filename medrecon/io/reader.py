"""MONAI's way in: one reader for every format, whose refusal cannot be bypassed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader

from medrecon.io.find import find_one, is_left_out
from medrecon.io.meta import scan_at, scan_meta, scan_of
from medrecon.io.notices import notice
from medrecon.io.read import ScanWarning, load
from medrecon.io.scan import Scan, ScanError

__all__ = ["ScanReader", "scan_meta", "scan_of"]


class ScanReader(ImageReader):
    """Read DICOM series, NIfTI, NRRD and MHA as (X, Y, Z) in stored units with a RAS affine.

    Use as `LoadImage(reader=ScanReader())` or `LoadImaged(reader="medrecon.io.ScanReader")` on a path, the
    files of one series, or a `Scan`. With `dtype=None` there the values keep the type of `read_scan`; with
    `expanduser=False` a `Scan` comes here as it is, else as its address, from which it is found again.

    A scan with others `beside` it is read with them, as channels of one image: itself first.

    Args:
        series: as in `find_scans`, which says what the other arguments are.
        volume: which volume of a 4D or multi-echo source.
        **options: `resample`, `nifti_form`, `replace_nonfinite`, `max_bytes`, `accept`.
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
        if isinstance(data, (list, tuple)) and len(data) == 1:
            return self._find(data[0])
        if isinstance(data, Scan):
            return data
        if isinstance(data, (str, os.PathLike)):
            scan = scan_at(os.fspath(data))
            if scan is not None:
                return scan
        scan = find_one(data, series=self.series, volume=self.volume, **self.options)
        for note in scan.notes:
            if not is_left_out(note):
                notice(f"{scan.path}: {note}", ScanWarning)
        return scan

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """The voxels (X, Y, Z) in C order, and meta; (C, X, Y, Z) of scans beside one another.

        Raises:
            ScanError: the scan is refused.
        """
        if isinstance(img, (list, tuple)) and len(img) == 1:
            img = img[0]
        if isinstance(img, ScanError):
            raise img
        if isinstance(img, Exception):
            raise ScanError(
                f"cannot be read ({type(img).__name__}: {img})", remedy="check the input"
            ) from img
        volume, meta = _loaded(img)
        if not img.beside:
            return volume, meta
        others = [_loaded(scan)[0] for scan in img.beside]
        for scan, other in zip(img.beside, others, strict=True):
            if other.shape != volume.shape:
                raise ScanError("it is not what its header says", path=scan.path, remedy="check the file")
        meta["original_channel_dim"] = 0
        meta["channel_units"] = "\n".join(scan.units for scan in (img, *img.beside))
        return np.stack([volume, *others]), meta


def _loaded(scan: Scan) -> tuple[np.ndarray, dict[str, Any]]:
    """One scan's voxels, and its meta."""
    try:
        volume, notes = load(scan)
    except ScanError:
        raise
    except Exception as error:
        why = f"cannot be read ({type(error).__name__}: {error})"
        raise ScanError(why, path=scan.path, remedy="check the input") from error
    for note in notes:
        notice(f"{scan.path}: {note}", ScanWarning)
    return contiguous(volume), scan_meta(scan, notes)


def contiguous(volume: np.ndarray) -> np.ndarray:
    """(X, Y, Z) in C order, as torch wants it.

    DICOM comes as a view of (Z, Y, X); turned plane by plane it takes a tenth of what one copy takes. numpy
    holds the result because it asks for huge pages, also when MONAI converts its type.
    Unsigned 16 bit, which torch hardly knows, comes as int32.
    """
    values = volume.astype(np.int32) if volume.dtype == np.uint16 else volume
    if values.flags.c_contiguous:
        return values
    turned = np.empty(values.shape, values.dtype)
    planes, threads = np.arange(values.shape[1]), min(torch.get_num_threads(), 4)
    if threads == 1:
        _turn_planes(values, turned, planes)
        return turned
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda share: _turn_planes(values, turned, share), np.array_split(planes, threads)))
    return turned


def _turn_planes(values: np.ndarray, turned: np.ndarray, planes: np.ndarray) -> None:
    """Copy planes of one y, (X, Z), through buffers that stay in the processor's cache.

    torch only transposes one plane in one thread; the rest is numpy's, which shares no work among threads:
    for a plane, waking them costs ten times the copy.
    """
    columns, _, slices = values.shape
    gathered = np.empty((slices, columns), values.dtype)
    plane = np.empty((columns, slices), values.dtype)
    source, target = torch.from_numpy(gathered).t(), torch.from_numpy(plane)
    for y in planes:
        gathered[:] = values[:, y, :].T
        target.copy_(source)
        turned[:, y, :] = plane
