"""Find the scans that a folder, a file or a list holds, from headers alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrecon.io.dicom_header import Header, NotDicom, read_header
from medrecon.io.kinds import left_out_reason
from medrecon.io.nifti import nifti_scan
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError
from medrecon.io.series import scan_key, series_scan
from medrecon.io.text_volume import text_scan
from medrecon.io.walk import walk

Source = str | os.PathLike[str] | Sequence["str | os.PathLike[str]"]


@dataclass
class _Heap:
    """What the walk collected."""

    series: dict[str, list[Header]] = field(default_factory=dict)
    volumes: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    broken: list[ScanError] = field(default_factory=list)


def find_scans(
    source: Source,
    *,
    series: str | None = None,
    volume: int | None = None,
    resample_tilt: bool = False,
    nifti_form: str = "",
    replace_nonfinite: float | None = None,
    max_bytes: int = ReadOptions.max_bytes,
) -> Found:
    """Find and check every scan in a source; no voxel is read.

    Args:
        source: a folder (searched with its sub-folders), one file, or a list of them.
        series: keep the series with this SeriesInstanceUID, SeriesNumber, key or description.
        volume: which volume of a 4D or multi-echo source, counted from 0.
        resample_tilt: read sheared stacks (gantry tilt), resampled onto a straight grid.
        nifti_form: "sform" or "qform": which one to believe where they disagree.
        replace_nonfinite: value in the place of NaN and Inf.
        max_bytes: refuse scans that are larger than this in memory.

    Returns:
        The scans, the files that are left out, and the scans that are refused where others can be read.

    Raises:
        ScanError: a named file is broken, or nothing can be read.
    """
    options = ReadOptions(resample_tilt, nifti_form, replace_nonfinite, max_bytes)
    sources = [Path(source)] if isinstance(source, (str, os.PathLike)) else [Path(s) for s in source]
    if not sources:
        raise ScanError("no input is named", remedy="name a folder or a file")
    heap = _Heap()
    named = {s for s in sources if not s.is_dir()}
    for path in dict.fromkeys(p for s in sources for p in walk(s)):
        _sort_in(path, heap, named)
    scans: list[Scan] = []
    refused: list[ScanError] = []
    lost = list(heap.broken)
    for headers in heap.series.values():
        images = _images(headers, heap)
        if not images or not _wanted(images[0], series):
            continue
        try:
            mine = _lost_slices(images, lost)
            scans.append(_checked(lambda h=images: series_scan(h, volume, options), mine))  # type: ignore[misc]
        except ScanError as error:
            refused.append(error)
    for path in heap.volumes:
        try:
            scan = _volume_scan(path, volume, options)
            if series is None or series in (scan.key, scan.description):
                scans.append(scan)
        except ScanError as error:
            refused.append(error)
    for error in lost:
        if error.path in named:
            refused.append(error)
        else:
            heap.left_out.append(LeftOut(error.path or sources[0], error.message))
    return _result(scans, heap.left_out, refused, sources, series)


def find_one(
    source: Source, *, series: str | None = None, volume: int | None = None, **options: object
) -> Scan:
    """The one scan of a source; arguments as `find_scans`.

    Raises:
        ScanError: none, several (they are listed with the option that picks one), or the one is refused.
    """
    found = find_scans(source, series=series, volume=volume, **options)  # type: ignore[arg-type]
    if len(found.scans) == 1 and not found.refused:
        return found.scans[0]
    path = Path(source) if isinstance(source, (str, os.PathLike)) else Path(next(iter(source)))
    listed = [
        f"{s.key} {s.modality} {s.description[:40]!r} {s.series_uid or s.path.name}" for s in found.scans
    ]
    listed += [f"refused: {error}" for error in found.refused]
    shown = ", ".join(listed[:8]) + (f", and {len(listed) - 8} more" if len(listed) > 8 else "")
    raise ScanError(f"holds {len(listed)} scans: {shown}", path=path, remedy="choose one with --series")


def _sort_in(path: Path | LeftOut, heap: _Heap, named: set[Path]) -> None:
    """Put one file where it belongs."""
    if isinstance(path, LeftOut):
        heap.left_out.append(path)
        if path.reason.startswith(("a link to nowhere", "cannot be opened")):
            heap.left_out.pop()
            heap.broken.append(ScanError(path.reason, path=path.path, remedy="restore the file"))
        return
    name = path.name.lower()
    if name == "dicomdir":
        if path in named:
            heap.broken.append(
                ScanError("is a DICOM directory", path=path, remedy="give the folder that holds it")
            )
        else:
            heap.left_out.append(LeftOut(path, "DICOM directory: the files are found by themselves"))
        return
    if VOLUME_NAME.search(name):
        heap.volumes.append(path)
        return
    try:
        if path.stat().st_size == 0:
            raise ScanError("is empty (0 bytes)", path=path, remedy="fetch the file again")
        header = read_header(path)
    except NotDicom:
        reason = _image_of_pair(path) or "no DICOM, NIfTI, NRRD or MHA file"
        if path in named:
            heap.broken.append(ScanError(reason, path=path, remedy="give a scan"))
        else:
            heap.left_out.append(LeftOut(path, reason))
    except ScanError as error:
        heap.broken.append(error)
    except OSError as error:
        heap.broken.append(
            ScanError(f"cannot be opened ({error.strerror})", path=path, remedy="check the rights")
        )
    else:
        uid = header.text("SeriesInstanceUID") or f"{path.parent}|{header.text('SeriesNumber')}"
        heap.series.setdefault(uid, []).append(header)


VOLUME_NAME = re.compile(r"\.(nii|nii\.gz|hdr|hdr\.gz|nrrd|nhdr|mha|mhd)$")


def _image_of_pair(path: Path) -> str:
    stem = re.sub(r"(\.img|\.img\.gz|\.raw|\.zraw)$", "", path.name)
    if stem != path.name:
        for suffix in (".hdr", ".hdr.gz", ".nhdr", ".mhd"):
            if path.with_name(stem + suffix).exists():
                return f"read with its header {stem + suffix}"
    return ""


def _images(headers: Sequence[Header], heap: _Heap) -> list[Header]:
    """The headers of images that can be slices; the others are left out."""
    images = []
    for header in headers:
        reason = left_out_reason(header)
        if reason:
            heap.left_out.append(LeftOut(header.path, reason))
        else:
            images.append(header)
    return images


def _wanted(header: Header, series: str | None) -> bool:
    if series is None:
        return True
    uid = header.text("SeriesInstanceUID")
    return series in (uid, header.text("SeriesNumber"), header.text("SeriesDescription"), scan_key(uid, None))


def _lost_slices(images: Sequence[Header], lost: list[ScanError]) -> list[ScanError]:
    """Broken files that look like slices of this series: in its folders, with its pattern of names."""
    folders = {h.path.parent for h in images}
    return [e for e in lost if e.path is not None and e.path.parent in folders]


def _checked(make: Callable[[], Scan], mine: Sequence[ScanError]) -> Scan:
    """Make a scan; broken files in its folder are named where they may be its missing slices."""
    names = ", ".join(f"{e.path.name if e.path else ''} {e.message}" for e in mine[:3])
    try:
        scan = make()
    except ScanError as error:
        if not mine:
            raise
        raise ScanError(f"{error.message} ({names})", path=error.path, remedy=error.remedy) from None
    patterns = {_pattern(p) for p in scan.files}
    for error in mine:
        if error.path is None or error.message.startswith("is empty"):
            continue  # no gap: it stands beside a whole series, and is listed as left out
        if _pattern(error.path) in patterns or "DICOM" in error.message:
            raise ScanError(f"a slice may be lost: {error.message}", path=error.path, remedy=error.remedy)
    return scan


def _pattern(path: Path) -> str:
    return re.sub(r"\d+", "#", path.name)


def _volume_scan(path: Path, volume: int | None, options: ReadOptions) -> Scan:
    name = path.name.lower()
    try:
        if path.stat().st_size == 0:
            raise ScanError("is empty (0 bytes)", path=path, remedy="fetch the file again")
        if re.search(r"\.(nii|hdr)(\.gz)?$", name):
            return nifti_scan(path, volume, options)
        return text_scan(path, volume, options)
    except OSError as error:
        raise ScanError(f"cannot be opened ({error.strerror})", path=path, remedy="check the file") from None


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
