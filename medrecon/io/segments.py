"""Names of labels: of a segmentation that 3D Slicer saved, or of a JSON file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from medrecon.errors import told_as
from medrecon.io.itk.header import read_head
from medrecon.io.scan import ScanError

_FIELD = re.compile(r"Segment(\d{1,6})_(Name|LabelValue|Layer):=(.*)")
_LARGEST = 16 << 20
_EXAMPLE = 'write {"1": "liver", "2": "lesion"}'


def segment_names(path: Path) -> dict[int, dict[int, str]]:
    """Layer -> label -> name of a `.seg.nrrd` file; empty where it names none.

    Segments that overlap are stored in several layers, each a volume of the file. Source: 3D Slicer,
    vtkMRMLSegmentationStorageNode (fields `SegmentN_Name`, `SegmentN_LabelValue`, `SegmentN_Layer`).

    Raises:
        ScanError: it cannot be read.
    """
    segments: dict[str, dict[str, str]] = {}
    for line in read_head(path).partition(b"\n\n")[0].decode("utf-8", "replace").splitlines():
        if found := _FIELD.fullmatch(line.strip()):
            number, field, value = found.groups()
            segments.setdefault(number, {})[field] = value.strip()
    names: dict[int, dict[int, str]] = {}
    for segment in segments.values():
        label, layer = segment.get("LabelValue", "1"), segment.get("Layer", "0")
        if label.isdecimal() and layer.isdecimal() and segment.get("Name"):
            names.setdefault(int(layer), {})[int(label)] = segment["Name"]
    return names


def label_names(path: Path) -> dict[int, str]:
    """Label -> name of a JSON file: {"1": "liver"}, {"liver": 1}, or the same under "labels" (nnU-Net).

    Raises:
        ScanError: it cannot be read, or holds no names.
    """
    with told_as(ScanError, "cannot be read", path=path, remedy="check its place"):
        large = path.stat().st_size > _LARGEST
        text = b"" if large else path.read_bytes()
    if large:
        raise ScanError("is too large for names of labels", path=path, remedy="give a small JSON file")
    try:
        content: Any = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ScanError(f"is no JSON: {error}", path=path, remedy=_EXAMPLE) from error
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        content = content["labels"]
    names: dict[int, str] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, str) and str(key).isdecimal():
            names[int(key)] = value
        elif isinstance(value, int) and not isinstance(value, bool):
            names[value] = str(key)
    if not names:
        raise ScanError("names no label", path=path, remedy=_EXAMPLE)
    return names
