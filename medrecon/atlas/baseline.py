"""What is measured once for a scan: regions, codecs, and the controls that no layer changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrecon.atlas.network import MiddleSlices, ScanResults
from medrecon.evaluation.codecs import CodecMeter
from medrecon.evaluation.fidelity import Fidelity, fidelity
from medrecon.evaluation.findings import FindingMeter
from medrecon.evaluation.marked import Marked
from medrecon.evaluation.regions import Regions, body_mask
from medrecon.evaluation.scores import Control
from medrecon.evaluation.spectrum import SpectrumMeter
from medrecon.evaluation.uncertainty import calibration_blocks, local_detail
from medrecon.intensity_range import intensity_range
from medrecon.io.scan import Scan


@dataclass
class Baseline:
    """What is measured once for a scan."""

    scan: Scan
    raw: ScanResults
    range: tuple[float, float]
    body: np.ndarray
    regions: Regions
    findings: tuple[FindingMeter, ...]
    spectrum: SpectrumMeter
    codecs: CodecMeter
    calibrate: np.ndarray
    detail: np.ndarray
    mean: Control
    identity: Control
    share: float


def baseline_of(scan: Scan, raw: ScanResults, marked: Sequence[Marked] = ()) -> Baseline:
    """Measure what all layers of a scan share.

    Args:
        scan: the source.
        raw: what the network made of it.
        marked: parts of it that are looked at for themselves.
    """
    low, high = intensity_range(raw.source, scan.units)
    body = body_mask(raw.source, scan.units)
    box = raw.box
    mean = np.broadcast_to(np.float32(box.source.mean(dtype=np.float64)), box.source.shape)
    same = np.array_equal(raw.identity, raw.source)
    identity = (
        Control("identity", math.inf, 1.0, 0.0)
        if same
        else _control("identity", fidelity(raw.source, raw.identity, units=scan.units))
    )
    return Baseline(
        scan=scan,
        raw=raw,
        range=(low, high),
        body=body,
        regions=Regions(raw.source, scan.units, body, marked),
        findings=tuple(FindingMeter(each, raw.source, np.asarray(scan.affine), body) for each in marked),
        spectrum=SpectrumMeter(raw.source, scan.spacing, body),
        codecs=CodecMeter(raw.source, scan.units, (low, high)),
        calibrate=calibration_blocks(scan.shape),
        detail=local_detail(raw.source),
        mean=in_box("mean image", scan, box, mean),
        identity=identity,
        share=raw.network_voxels / raw.source.size,
    )


def in_box(name: str, scan: Scan, box: MiddleSlices, values: np.ndarray) -> Control:
    """A control, measured on the slices in the middle."""
    found = fidelity(box.source, values, units=scan.units, data_range=box.data_range)
    return _control(name, found)


def _control(name: str, found: Fidelity) -> Control:
    return Control(name, found.psnr, found.ssim, found.mae)


def box_psnr(fixed: Baseline, result: str, kind: str) -> float:
    """PSNR on the slices of the controls, as `fidelity` has it."""
    box = fixed.raw.box
    low, high = box.data_range
    error = box.variants[result, kind] - box.source
    if fixed.scan.units == "HU":
        error = np.clip(box.variants[result, kind], low, high) - np.clip(box.source, low, high)
    squared = float(np.square(error).mean(dtype=np.float64))
    return 10 * math.log10((high - low) ** 2 / squared) if squared else math.inf
