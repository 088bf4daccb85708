"""Where feature files go, and whether the disk can hold them: settled before any work is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from medrecon.errors import OutputError, UsageError
from medrecon.features.file import ENDING
from medrecon.io.files.destinations import check_places
from medrecon.io.files.names import scan_label
from medrecon.io.scan import Scan


def plan_features(scans: Sequence[Scan], output: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
    """The final path of each scan's feature file.

    One scan goes to `output` itself where that is named `.safetensors`; else, and for several scans,
    `output` is a folder that gets `<label>.safetensors` for each.

    Args:
        scans: what will be encoded; their keys must differ.
        output: what the user named.
        overwrite: whether existing files may be replaced.

    Returns:
        Scan key -> path.

    Raises:
        UsageError: nothing to encode, a key twice, or one file for several scans.
        OutputError: a file exists, lies in the input or cannot be written.
    """
    output = Path(output)
    named = output.name.lower().endswith(ENDING)
    if not scans:
        raise UsageError("no scan to encode", path=output, remedy="name a scan")
    if len({scan.key for scan in scans}) < len(scans):
        raise UsageError("a scan is given twice", path=output, remedy="name each scan once")
    if named and len(scans) > 1:
        raise UsageError(
            f"one {ENDING} file cannot hold {len(scans)} scans", path=output, remedy="name a folder"
        )
    targets = {scan.key: output if named else output / f"{scan_label(scan)}{ENDING}" for scan in scans}
    check_places(scans, list(targets.values()), output, overwrite)
    return targets


def check_space(target: Path, size: int) -> None:
    """Refuse features that the disk cannot hold, before they are computed.

    Args:
        target: where they go.
        size: bytes, working space included.

    Raises:
        OutputError: less is free.
    """
    place = target.parent
    while not os.path.lexists(place):
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise OutputError(
            f"its features need {readable(size)} of disk, {readable(free)} are free",
            path=target,
            remedy="choose fewer or deeper layers, --dtype float16 or int8, or another disk",
        )


def readable(size: float) -> str:
    """Bytes in words: "12.3 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
