"""The measures of an atlas, each declared once: what it is called, its unit, and where it is shown.

A new one is a field of `LayerScore`, the line that computes it (`medrecon.atlas.measuring`), and a line here:
the tables, the pages, the summary over many scans, comparisons and the scene for 3D Slicer follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medrecon.evaluation.scores import Control, LayerScore

SOURCE = "source"
"""The unit of what is measured in the scan's own units: it means something only beside the same unit."""


@dataclass(frozen=True)
class Measure:
    """One figure of a layer.

    Attributes:
        key: field of `LayerScore`, and column of metrics.csv.
        label: what a table calls it.
        unit: "dB", "lp/mm", `SOURCE`, or "" for a share or a ratio.
        digits: decimals; None: as many as the values need.
        signed: whether a plus is written.
        path: where it is in a `LayerScore`, if not under its key.
        scored: stands in the table of scores, where controls stand beneath.
        summarised: has a mean over many scans.
        compared: is compared between two atlases.
        charted: that comparison is drawn.
        flagged: a scan that stands out by it is named.
    """

    key: str
    label: str
    unit: str = ""
    digits: int | None = 3
    signed: bool = False
    path: str = ""
    scored: bool = False
    summarised: bool = True
    compared: bool = False
    charted: bool = False
    flagged: bool = False

    def of(self, score: LayerScore | Control) -> float | None:
        """Its value; None where it was not measured."""
        value: Any = score
        for part in (self.path or self.key).split("."):
            if value is not None:
                value = (value if isinstance(value, Mapping) else vars(value)).get(part)
        return None if value is None else float(value)

    def title(self, units: str = "") -> str:
        """The label with its unit: "PSNR (dB)", "MAE (HU)" for a scan in HU."""
        unit = units if self.unit == SOURCE else self.unit
        return f"{self.label} ({unit})" if unit else self.label


MEASURES = (
    Measure("body_mae", "MAE in the body", SOURCE, None, path="regions.body.mae", scored=True, compared=True),
    Measure("mae", "MAE", SOURCE, None, scored=True, compared=True),
    Measure("rmse", "RMSE", SOURCE, None, scored=True, compared=True),
    Measure("bias", "bias", SOURCE, None, signed=True, scored=True),
    Measure("psnr", "PSNR", "dB", 1, scored=True, compared=True, charted=True, flagged=True),
    Measure("ssim", "SSIM", scored=True, compared=True, charted=True, flagged=True),
    Measure("ms_ssim", "MS-SSIM", scored=True, compared=True),
    Measure("normalised_error", "normalised error", scored=True, compared=True, charted=True, flagged=True),
    Measure("consistency", "re-encoded distance", scored=True, compared=True),
    Measure("values_per_voxel", "values per voxel", summarised=False),
    Measure("bits_per_voxel", "bits per voxel", compared=True),
    Measure("coverage", "inside the 90 % interval", flagged=True),
    Measure("interval", "half width of the interval", SOURCE, None),
    Measure("limit_lp_per_mm", "detail gone beyond", "lp/mm", 2, path="spectrum.limit", compared=True),
    Measure("labels_told", "labels told", path="told.accuracy", compared=True),
    Measure("labels_told_dct", "labels told by DCT", path="told.dct"),
)

BY_KEY = {measure.key: measure for measure in MEASURES}
