"""The images that the variants of a sweep are measured on: a few slices, or a block, of each scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medrecon.bundle.config import Bundle
from medrecon.errors import UsageError
from medrecon.io import Scan, ScanError, find_scans
from medrecon.io.choices import in_sets
from medrecon.io.files.names import scan_label

MOST_TRAINING_SCANS = 6
"""Scans out of those trained on that are measured beside those held out; evenly chosen."""

BLOCK = 96
"""Voxels along each axis of the block that a 3D network is measured on, at most."""


@dataclass(frozen=True)
class Sample:
    """What is looked at of one scan.

    Attributes:
        label: of the scan, without identity.
        modality: "CT", "MR" or "".
        units: "HU" or the source's.
        image: (C, X, Y, N) in the network's scale: N slices evenly spaced along Z, or a block; the first
            channel is given back, others are scans beside it.
        low: what 0 means, in `units`.
        high: what 1 means.
        spacing: mm along X, Y, Z of the scan.
        affine: (4, 4) of the scan, for its orientation.
        volumetric: a block, not slices.
    """

    label: str
    modality: str
    units: str
    image: torch.Tensor
    low: float
    high: float
    spacing: tuple[float, float, float]
    affine: np.ndarray
    volumetric: bool

    def stored(self, image: torch.Tensor) -> np.ndarray:
        """An image (1, X, Y, N) in the network's scale -> (X, Y, N) in the scan's units, float32."""
        values: np.ndarray = (image[0].float() * (self.high - self.low) + self.low).cpu().numpy()
        return values


def split_scans(
    dataset: Path, held_out: Sequence[str], channels: Mapping[str, str] | None = None
) -> tuple[list[Scan], list[Scan], tuple[ScanError, ...]]:
    """The scans that are trained on, those held out, and why others are refused.

    Args:
        dataset: folder of scans.
        held_out: patterns (`*` and `?`) of file or series-folder names.
        channels: which scans belong together (`medrecon.io.choices.in_sets`); a set is held out as a whole.

    Raises:
        UsageError: no pattern, one that matches nothing, or one of the two is empty.
        ScanError: a set of channels is not whole.
    """
    found = find_scans(dataset)
    scans = found.scans
    names = sorted({scan.path.name for scan in scans})
    if not held_out:
        raise UsageError(
            "no scan is held out to measure on",
            path=dataset,
            remedy="name some of its files or series folders with --held-out NAME",
        )
    everything = [*names, *(error.path.name for error in found.refused if error.path is not None)]
    for pattern in held_out:
        if not any(fnmatch(name, pattern) for name in everything):
            raise UsageError(
                f"nothing matches --held-out {pattern}",
                path=dataset,
                remedy="give the name of a file or a series folder there, as such or with * and ?",
            )
    scans = in_sets(scans, channels or {})
    kept = [
        scan
        for scan in scans
        if any(fnmatch(each.path.name, p) for each in (scan, *scan.beside) for p in held_out)
    ]
    rest = [scan for scan in scans if scan not in kept]
    if not kept or not rest:
        raise UsageError(
            f"--held-out {' '.join(held_out)} leaves no scan to {'train on' if kept else 'measure'}",
            path=dataset,
            remedy="choose other scans",
        )
    return rest, kept, found.refused


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many, evenly spaced, the same each time."""
    count = min(most, len(items))
    return [items[int((index + 0.5) * len(items) / count)] for index in range(count)]


def take_samples(bundle: Bundle, scans: Sequence[Scan], slices: int, volumetric: bool) -> list[Sample]:
    """Read each scan as the bundle does, and keep what will be looked at.

    Args:
        bundle: its `preprocessing` is used.
        scans: as `find_scans` gives them.
        slices: how many of each scan, for a 2D network.
        volumetric: take a block for a 3D network instead.

    Raises:
        ScanError: a scan cannot be read.
    """
    preprocessing = bundle.build("preprocessing")
    return [_sample(preprocessing({"image": scan})["image"], scan, slices, volumetric) for scan in scans]


def _sample(image: Any, scan: Scan, slices: int, volumetric: bool) -> Sample:
    plain: torch.Tensor = image.as_tensor()
    if volumetric:
        starts = [max(0, (n - BLOCK) // 2) for n in plain.shape[1:]]
        chosen = plain[(slice(None), *(slice(start, start + BLOCK) for start in starts))]
    else:
        chosen = plain[..., evenly(range(plain.shape[-1]), slices)]
    traces = [op.get("extra_info", {}) for op in image.applied_operations]
    low, high = next(((t["low"], t["high"]) for t in reversed(traces) if "low" in t), (0.0, 1.0))
    affine = np.asarray(image.affine, dtype=np.float64)
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return Sample(
        label=scan_label(scan),
        modality=scan.modality,
        units=scan.units,
        image=chosen.float().clone(),
        low=float(low),
        high=float(high),
        spacing=(float(x), float(y), float(z)),
        affine=affine,
        volumetric=volumetric,
    )
