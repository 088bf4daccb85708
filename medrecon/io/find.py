"""Find the scans that a folder, a file or a list holds, from headers alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrecon.io.collect import collect, unreadable
from medrecon.io.dicom.reading.copies import drop_copies
from medrecon.io.dicom.reading.header import Header
from medrecon.io.dicom.reading.series import describe, identity, series_scan
from medrecon.io.files.names import hiding, scan_words
from medrecon.io.itk.volume import text_scan
from medrecon.io.nifti.volume import nifti_scan
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError, checked_names, or_accept, scan_key
from medrecon.io.strays import Broken, strays

LEFT_OUT = "file(s) left out: "
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
    heap = collect(sources, options)
    lost = strays(heap.series, heap.broken)
    named = {s for s in sources if not s.is_dir()}
    scans: list[Scan] = []
    refused: list[ScanError] = []
    told: set[Path] = set()
    for key, headers in heap.series.items():
        if not _wanted(headers[0], series, volume):
            continue
        if key in lost.apart and not options.accepts("lost-slices"):
            continue
        mine = [item for item in lost.of.get(key, ()) if item.path not in named]
        mine += [Broken(_apart(path)) for small, (large, path) in lost.apart.items() if large == key]
        try:
            kept, copies = drop_copies(headers, options)
            scan = _series(kept, volume, options, mine, lost.shared)
        except ScanError as error:
            refused.append(error)
            told |= {item.path for item in mine}
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
    owned = {item.path for items in lost.of.values() for item in items}
    for item in heap.broken:
        if item.path in named:
            refused.append(item.error)
        elif item.path in told:
            continue
        elif series is None and item.path not in owned and (item.dicom or item in lost.shared):
            refused.append(item.error)
        else:
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
        notes = tuple(f"{count} {LEFT_OUT}{reason}" for reason, count in reasons.items())
        return replace(scan, notes=scan.notes + notes)
    listed = [scan_words(scan) for scan in found.scans]
    listed += [f"refused: {error}" for error in found.refused]
    shown = ", ".join(listed[:8]) + (f", and {len(listed) - 8} more" if len(listed) > 8 else "")
    raise ScanError(
        f"holds {len(listed)} scans: {shown}",
        path=paths_of(source)[0],
        remedy="choose with --series; `medrecon scans` tells which is which",
    )


def is_left_out(note: str) -> bool:
    """Whether a note of `find_one` only counts files that are other things."""
    return note.partition(" ")[2].startswith(LEFT_OUT)


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
    headers: list[Header],
    volume: int | None,
    options: ReadOptions,
    mine: Sequence[Broken],
    shared: Sequence[Broken],
) -> Scan:
    """The scan of a series; files that may be slices of it and cannot be read are named.

    Args:
        headers: of its slices.
        volume: as in `find_scans`.
        options: what the user allows.
        mine: broken files that belong to it.
        shared: broken files beside it that may belong to it or to another series.
    """
    names = ", ".join(f"{item.path.name} {item.why}" for item in mine[:3])
    try:
        scan = series_scan(headers, volume, options)
    except ScanError as error:
        if not names or (error.path is not None and error.path.is_file()):
            raise
        raise ScanError(f"{error.message} ({names})", path=error.path, remedy=error.remedy) from None
    lost = next((item for item in mine if not item.empty), None)
    if lost is not None and not options.accepts("lost-slices"):
        raise ScanError(
            f"a slice may be lost: {lost.why}",
            path=lost.path,
            remedy=lost.error.remedy + or_accept("lost-slices"),
        )
    folders = {h.path.parent for h in headers}
    beside = [*mine, *(item for item in shared if item.path.parent in folders)]
    if not beside:
        return scan
    hide = hiding(item.path for item in beside)
    note = hide(f"a slice may be lost: {beside[0].path.name} {beside[0].why}")
    return replace(scan, notes=(*scan.notes, note))


def _apart(path: Path) -> ScanError:
    return ScanError(
        "fits into a series beside it but for its Series Instance UID", path=path, remedy="restore the file"
    )


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
    accept = next((or_accept(*item.accept) for item in left_out if item.accept), "")
    raise ScanError(what, path=sources[0], remedy="give a DICOM series, NIfTI, NRRD or MHA file" + accept)
