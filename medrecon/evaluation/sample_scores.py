"""What samples of a generative decoder tell of a layer, and how they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SampleInterval:
    """How one kind of interval holds on blocks that it is not calibrated on.

    Attributes:
        way: see `medrecon.evaluation.sample_intervals`.
        level: share of voxels that it is to hold.
        coverage: share of the body's held-out voxels inside it.
        width: mean half width over the body, source units.
    """

    way: str
    level: float
    coverage: float
    width: float


@dataclass(frozen=True)
class SampleScore:
    """What samples of a generative decoder tell of a layer.

    Attributes:
        count: how many were drawn.
        seed: of all of them.
        intervals: one for each way and level.
        shared: share of the samples' local detail in the body that all of them have in common.
        rmse_of_mean: error of their mean over the body, source units.
        feature_distance: mean distance of their features to those that they were drawn from, over the length
            of those; None where it cannot be told.
        decoder_distance: the same of the decoder's one answer.
    """

    count: int
    seed: int
    intervals: tuple[SampleInterval, ...]
    shared: float
    rmse_of_mean: float
    feature_distance: float | None
    decoder_distance: float | None


@dataclass(frozen=True)
class SamplePictures:
    """Samples of a layer on the axial slice that the page shows, (rows, columns) each.

    Attributes:
        samples: the first ones, source units.
        mean: of all, source units.
        deviation: their standard deviation, source units.
        agreement: share of their local detail that all have in common, 0 to 1.
    """

    samples: tuple[np.ndarray, ...]
    mean: np.ndarray
    deviation: np.ndarray
    agreement: np.ndarray


@dataclass(frozen=True)
class SampleVolumes:
    """Samples of a layer as volumes, (X, Y, Z) in source units.

    Attributes:
        samples: the first ones.
        mean: of all.
        deviation: their standard deviation.
    """

    samples: tuple[np.ndarray, ...]
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def all(self) -> tuple[np.ndarray, ...]:
        """Each of them."""
        return (*self.samples, self.mean, self.deviation)
