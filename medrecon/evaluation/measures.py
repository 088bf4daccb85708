"""The measures of an atlas, each declared once: what it is called, its unit, and where it is shown.

A new one is a field of `LayerScore`, the line that computes it (`medrecon.atlas.measuring`), and a line here:
the tables, the pages, the summary over many scans, comparisons and the scene for 3D Slicer follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medrecon.evaluation.scores import Control, Finding, FindingKept, LayerScore

SOURCE = "source"
"""The unit of what is measured in the scan's own units: it means something only beside the same unit."""


@dataclass(frozen=True)
class Measure:
    """One figure of a layer.

    Attributes:
        key: field of `LayerScore`, and column of metrics.csv.
        label: what a table calls it.
        meaning: one line that explains it to who reads the table.
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
    meaning: str
    unit: str = ""
    digits: int | None = 3
    signed: bool = False
    path: str = ""
    scored: bool = False
    summarised: bool = True
    compared: bool = False
    charted: bool = False
    flagged: bool = False

    def of(self, score: LayerScore | Control | Finding | FindingKept) -> float | None:
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
    Measure(
        "body_mae",
        "MAE in the body",
        "mean absolute error of the voxels in the body, without the air around it",
        SOURCE,
        None,
        path="regions.body.mae",
        scored=True,
        compared=True,
    ),
    Measure(
        "mae",
        "MAE",
        "mean absolute error of all voxels: how far off one is on average",
        SOURCE,
        None,
        scored=True,
        compared=True,
    ),
    Measure(
        "rmse",
        "RMSE",
        "root of the mean squared error: as MAE, but large errors count more",
        SOURCE,
        None,
        scored=True,
        compared=True,
    ),
    Measure(
        "bias",
        "bias",
        "mean of reconstruction minus source: above zero it is too bright on average",
        SOURCE,
        None,
        signed=True,
        scored=True,
    ),
    Measure(
        "psnr",
        "PSNR",
        "peak signal-to-noise ratio: the range over the RMSE, on a log scale. 6 dB more is half the error",
        "dB",
        1,
        scored=True,
        compared=True,
        charted=True,
        flagged=True,
    ),
    Measure(
        "ssim",
        "SSIM",
        "structural similarity: how alike small neighbourhoods are; 1 is the same",
        scored=True,
        compared=True,
        charted=True,
        flagged=True,
    ),
    Measure(
        "ms_ssim",
        "MS-SSIM",
        "multi-scale structural similarity: SSIM from fine to coarse; 1 is the same",
        scored=True,
        compared=True,
    ),
    Measure(
        "normalised_error",
        "normalised error",
        "length of the error over that of the scan about its mean: 0 nothing lost, 1 as bad as flat grey",
        scored=True,
        compared=True,
        charted=True,
        flagged=True,
    ),
    Measure(
        "consistency",
        "re-encoded distance",
        "how far the features move when the reconstruction is encoded again: 0 not at all, 1 as far as zeros",
        scored=True,
        compared=True,
    ),
    Measure(
        "values_per_voxel",
        "values per voxel",
        "numbers that the layer keeps for each voxel of the scan",
        summarised=False,
    ),
    Measure(
        "bits_per_voxel",
        "bits per voxel",
        "size of the layer's features when coded without loss of rounding to 8 bits or so",
        compared=True,
    ),
    Measure(
        "coverage",
        "inside the 90 % interval",
        "share of held-out voxels that lie inside the stated 90 % interval; 90 % would be right",
        flagged=True,
    ),
    Measure(
        "interval",
        "half width of the interval",
        "mean half width of that interval: the error to be expected of a voxel",
        SOURCE,
        None,
    ),
    Measure(
        "limit_lp_per_mm",
        "detail gone beyond",
        "spatial frequency from which on the error passes half of the scan's power: finer detail is gone",
        "lp/mm",
        2,
        path="spectrum.limit",
        compared=True,
    ),
    Measure(
        "labels_told",
        "labels told",
        "how well a linear read-out of single positions tells the mask's labels apart: balanced accuracy",
        path="told.accuracy",
        compared=True,
    ),
    Measure(
        "labels_told_dct",
        "labels told by DCT",
        "the same read-out of a DCT with as many values, which has learned nothing",
        path="told.dct",
    ),
    Measure(
        "output_dice",
        "Dice of the output",
        "overlap of what the network itself finds in a reconstruction and in the scan: mean of its labels",
        path="output.dice",
        scored=True,
        compared=True,
    ),
    Measure(
        "output_distance",
        "distance of the output",
        "length of the difference of the network's own outputs, over that for the scan: 0 is the same",
        path="output.distance",
        scored=True,
        compared=True,
    ),
)

BY_KEY = {measure.key: measure for measure in MEASURES}

FINDING_MEASURES = (
    Measure(
        "contrast",
        "contrast",
        "mean inside minus mean of the surroundings, a shell of 5 mm",
        SOURCE,
        None,
        signed=True,
    ),
    Measure("kept", "contrast kept", "its contrast over that of the source, with a 95 % interval"),
    Measure("edge", "edge", "distance over which its edge rises: the smaller the sharper", "mm", 1),
    Measure(
        "diameter", "size", "diameter of a ball as large as what lies beyond half of its contrast", "mm", 1
    ),
)
"""What is measured of a finding, in the source and in each reconstruction."""
