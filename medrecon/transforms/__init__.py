"""Invertible maps between a scanner's units and the [0, 1] that networks see."""

from medrecon.transforms.coarsen import RandCoarseCropd
from medrecon.transforms.intensity import (
    HU_WINDOW,
    PERCENTILES,
    ScanIntensity,
    ScanIntensityd,
    intensity_range,
)

__all__ = [
    "HU_WINDOW",
    "PERCENTILES",
    "RandCoarseCropd",
    "ScanIntensity",
    "ScanIntensityd",
    "intensity_range",
]
