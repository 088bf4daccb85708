"""Find the scans that a folder, a file or a list holds, from headers alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrecon.io.collect import Broken, Heap, collect, unreadable
from medrecon.io.dicom.reading.copies import drop_copies
from medrecon.io.dicom.reading.header import Header
from medrecon.io.dicom.reading.series import describe, identity, series_scan
from medrecon.io.files.names import scan_words
from medrecon.io.itk.volume import text_scan
from medrecon.io.nifti.volume import nifti_scan
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError, checked_names, scan_key

OTHER_VOLUME = "slice of another volume of the series"
Source = str | os.PathLike[str] | Sequence["str | os.PathLike[str]"]


def find_scans(
    source: Source,
    *,
    series: str | None = None,
    volume: int | None = None,
    resample: bool = False,
    nifti_form: str = "",
    replace_nonfinite: float | None = None,
    max_bytes: int = ReadOptions.max_bytes,
    accept: Sequence[str] = (),
) -> Found:
    """Find and check every scan in a source; no voxel is read.

    Args:
        source: a folder (searched with its sub-folders), one file, or a list of them.
        series: keep the series with this SeriesInstanceUID, SeriesNumber, key or description.
        volume: which volume of a 4D or multi-echo source, counted from 0.
        resample: read sheared stacks (gantry tilt) and slices at uneven distances, resampled onto a straight,
            even grid.
        nifti_form: "sform" or "qform": which one to believe where they disagree.
        replace_nonfinite: value in the place of NaN and Inf.
        max_bytes: refuse scans that are larger than this in memory.
        accept: names of `medrecon.io.scan.ACCEPTABLE`: refusals that are read all the same, and said.

    Returns:
        The scans, the files that are left out, and the scans that are refused where others can be read.

    Raises:
        ScanError: a named file is broken, or nothing can be read.
    """
    options = ReadOptions(resample, nifti_form, replace_nonfinite, max_bytes, checked_names(accept))
    sources = paths_of(source)
    heap = collect(sources)
    scans: list[Scan] = []
    refused: list[ScanError] = []
    blamed: set[Path] = set()
    for headers in heap.series.values():
        if not _wanted(headers[0], series, volume):
            continue
        try:
            kept, copies = drop_copies(headers)
            scan = _series(kept, volume, options, heap.broken)
        except ScanError as error:
            refused.append(error)
            blamed |= {b.path for b in heap.broken if b.path == error.path or b.path.name in error.message}
        else:
            scans.append(scan)
            used = set(scan.files)
            heap.left_out += copies
            heap.left_out += [LeftOut(h.path, OTHER_VOLUME) for h in kept if h.path not in used]
    for path in heap.volumes:
        try:
            scan = _volume_file(path, volume, options)
        except ScanError as error:
            refused.append(error)
        else:
            if series is None or series in (scan.key, scan.description):
                scans.append(scan)
    named = {s for s in sources if not s.is_dir()}
    for item in heap.broken:
        if item.path in named or (
            item.dicom and item.path not in blamed and not _has_home(item, heap, series)
        ):
            refused.append(item.error)
        elif item.path not in blamed:
            heap.left_out.append(LeftOut(item.path, item.error.message))
    return _result(scans, heap.left_out, refused, sources, series)


def find_one(source: Source, *, series: str | None = None, volume: int | None = None, **options: Any) -> Scan:
    """The one scan of a source; arguments as `find_scans`. Its notes say how many files were left out.

    Raises:
        ScanError: none, several (they are listed with the option that picks one), or the one is refused.
    """
    found = find_scans(source, series=series, volume=volume, **options)
    if len(found.scans) == 1 and not found.refused:
        scan = found.scans[0]
        reasons = Counter(item.reason for item in found.left_out)
        notes = tuple(f"{count} file(s) left out: {reason}" for reason, count in reasons.items())
        return replace(scan, notes=scan.notes + notes)
    listed = [scan_words(scan) for scan in found.scans]
    listed += [f"refused: {error}" for error in found.refused]
    shown = ", ".join(listed[:8]) + (f", and {len(listed) - 8} more" if len(listed) > 8 else "")
    raise ScanError(
        f"holds {len(listed)} scans: {shown}",
        path=paths_of(source)[0],
        remedy="choose with --series; `medrecon scans` tells which is which",
    )


def paths_of(source: Source) -> list[Path]:
    """The paths that a source names.

    Raises:
        ScanError: it names none, or is no path.
    """
    try:
        paths = [Path(source)] if isinstance(source, (str, os.PathLike)) else [Path(s) for s in source]
    except TypeError:
        raise ScanError(f"{type(source).__name__} is no path", remedy="name a folder or a file") from None
    if not paths or any(str(p) == "." and not str(source) for p in paths):
        raise ScanError("no input is named", remedy="name a folder or a file")
    return paths


def _wanted(header: Header, series: str | None, volume: int | None) -> bool:
    if series is None:
        return True
    names = (header.text("SeriesInstanceUID"), header.text("SeriesNumber"), describe(header))
    return series in (*names, scan_key(identity(header), None), scan_key(identity(header), volume))


def _series(
    headers: list[Header], volume: int | None, options: ReadOptions, broken: Sequence[Broken]
) -> Scan:
    """The scan of a series; broken files beside it are named where they may be its missing slices."""
    uid, folders = headers[0].text("SeriesInstanceUID"), {h.path.parent for h in headers}
    mine = [b for b in broken if (b.series_uid == uid if b.series_uid else b.path.parent in folders)]
    try:
        scan = series_scan(headers, volume, options)
    except ScanError as error:
        names = ", ".join(f"{b.path.name} {b.error.message}" for b in mine[:3])
        if not names or (error.path is not None and error.path.is_file()):
            raise
        raise ScanError(f"{error.message} ({names})", path=error.path, remedy=error.remedy) from None
    patterns = {_pattern(h.path) for h in headers}
    for item in mine:
        # an empty file beside a series without a gap is listed as left out; anything else may be a lost slice
        if not item.empty and (item.dicom or _pattern(item.path) in patterns):
            raise ScanError(
                f"a slice may be lost: {item.error.message}", path=item.path, remedy=item.error.remedy
            )
    return scan


def _has_home(item: Broken, heap: Heap, series: str | None) -> bool:
    """Whether a broken DICOM file was judged with a series; one of another series is not asked for."""
    return series is not None or any(
        h.path.parent == item.path.parent for hs in heap.series.values() for h in hs
    )


def _pattern(path: Path) -> str:
    return re.sub(r"\d+", "#", path.name)


def _volume_file(path: Path, volume: int | None, options: ReadOptions) -> Scan:
    try:
        if path.stat().st_size == 0:
            raise ScanError("is empty (0 bytes)", path=path, remedy="fetch the file again")
        if re.search(r"\.(nii|hdr)(\.gz)?$", path.name.lower()):
            return nifti_scan(path, volume, options)
        return text_scan(path, volume, options)
    except OSError as error:
        raise unreadable(path, error) from None


def _result(
    scans: list[Scan],
    left_out: list[LeftOut],
    refused: list[ScanError],
    sources: list[Path],
    series: str | None,
) -> Found:
    if scans:
        return Found(tuple(scans), tuple(left_out), tuple(refused))
    if len(refused) == 1:
        raise refused[0]
    if refused:
        shown = " | ".join(str(e) for e in refused[:6])
        raise ScanError(
            f"{len(refused)} scans, all refused: {shown}", path=sources[0], remedy="see each reason"
        )
    if series is not None:
        raise ScanError(f"no series {series!r}", path=sources[0], remedy="list them with `medrecon scans`")
    reasons = ", ".join(f"{item.path.name}: {item.reason}" for item in left_out[:4])
    what = (
        f"no scan, {len(left_out)} file(s) left out ({reasons})"
        if left_out
        else "no scan: the folder is empty"
    )
    raise ScanError(what, path=sources[0], remedy="give a DICOM series, NIfTI, NRRD or MHA file")
