"""What variants are measured on, and the figures themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medrecon.contract import Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.encoders import FrozenEncoder, PlainEncoder
from medrecon.errors import UsageError
from medrecon.evaluation import fidelity
from medrecon.inference.tiling import SliceInferer
from medrecon.inversion import TransposedDecoder
from medrecon.reconstructor import Reconstructor
from medrecon.training.sweep.measure import averages, measure, parameters_of, perceptual_of, reconstruct
from medrecon.training.sweep.samples import Sample, evenly, split_scans

Make = Callable[..., np.ndarray]


def sample(units: str = "", slices: int = 3) -> Sample:
    image = torch.rand((1, 24, 20, slices), generator=torch.Generator().manual_seed(0))
    low, high = (-1024.0, 3071.0) if units == "HU" else (10.0, 210.0)
    return Sample("a", "MR", units, image, low, high, (1, 1, 1), np.eye(4), volumetric=False)


def test_patterns_split_the_scans(tmp_path: Path, make_ct: Make, make_nifti: Make) -> None:
    make_ct(tmp_path / "ct_one")
    make_nifti(tmp_path / "mr.nii.gz")
    make_ct(tmp_path / "gap", description="Gap", seed=2, leave_out=3)
    rest, kept, refused = split_scans(tmp_path, ["mr*", "gap"])
    assert [scan.path.name for scan in rest] == ["ct_one"]
    assert [scan.path.name for scan in kept] == ["mr.nii.gz"]
    assert [str(error.path and error.path.name) for error in refused] == ["gap"]
    for patterns, said in (
        ([], "no scan is held out"),
        (["mr*", "mt*"], "nothing matches"),
        (["*"], "train on"),
    ):
        with pytest.raises(UsageError, match=said):
            split_scans(tmp_path, patterns)


def test_evenly_spaced() -> None:
    assert evenly(range(100), 4) == [12, 37, 62, 87]
    assert evenly([1, 2], 5) == [1, 2]


@pytest.mark.parametrize("units", ["HU", ""])
def test_figures_are_those_of_the_evaluation(units: str) -> None:
    one = sample(units, slices=2)
    recon = one.image + torch.tensor([0.1, -0.05])
    row = measure(one, recon)
    ours, theirs = one.stored(one.image), one.stored(recon)
    each = [
        fidelity(ours[..., k], theirs[..., k], units=units, data_range=(one.low, one.high)) for k in range(2)
    ]
    whole = fidelity(ours, theirs, units=units, data_range=(one.low, one.high))
    assert row["psnr"] == pytest.approx(whole.psnr, abs=1e-4), "of the error over all slices"
    assert row["ssim"] == pytest.approx((each[0].ssim + each[1].ssim) / 2)
    assert row["mae"] == pytest.approx(whole.mae, rel=1e-5)
    if not units:
        assert row["mae"] == pytest.approx(0.075 * 200, rel=1e-4)
    assert row["perceptual"] is None
    assert measure(one, one.image)["psnr"] is None, "nothing lost"
    assert averages([row, measure(one, one.image)])["psnr"] == row["psnr"]


def frozen_network() -> Reconstructor:
    torch.manual_seed(0)
    encoder = FrozenEncoder(PlainEncoder(spatial_dims=2, channels=[4, 8]))
    return Reconstructor(encoder, TransposedDecoder(encoder.layers()))


def test_a_frozen_encoder_judges_and_one_trained_along_does_not() -> None:
    network = frozen_network()
    judge = perceptual_of(network)
    assert judge is not None
    one = sample()
    assert measure(one, one.image, judge)["perceptual"] == pytest.approx(0, abs=1e-6)
    assert measure(one, 1 - one.image, judge)["perceptual"] > 0.01
    network.encoder = PlainEncoder(spatial_dims=2, channels=[4, 8])
    assert perceptual_of(network) is None


class TwoPaths(Decoder):
    """A decoder whose layers share nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 1, 1)
        self.b = nn.Conv2d(5, 1, 1)

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        (name,) = features
        return nn.functional.interpolate(getattr(self, name)(features[name]), tuple(shape))


class Taps(Encoder):
    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("a", 3, (2, 2), (2, 2)), LayerInfo("b", 5, (4, 4), (4, 4))]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        sizes = {"a": (3, 2), "b": (5, 4)}
        return {
            n: nn.functional.avg_pool2d(image, sizes[n][1]).expand(-1, sizes[n][0], -1, -1) for n in names
        }


def test_only_parameters_that_take_part_are_counted() -> None:
    network = Reconstructor(Taps(), TwoPaths())
    network.inversion.b.bias.requires_grad_(False)
    assert parameters_of(network, "a") == 4
    assert parameters_of(network, "b") == 6
    assert [p.requires_grad for p in network.inversion.parameters()] == [True, True, True, False]


def test_time_is_for_a_slice() -> None:
    network = Reconstructor(Taps(), TwoPaths())
    images, seconds = reconstruct(network, SliceInferer(["a"]), [sample(), sample(slices=1)])
    assert [tuple(image.shape) for image in images] == [(1, 24, 20, 3), (1, 24, 20, 1)]
    assert 0 < seconds < 1
    assert math.isfinite(seconds)
