"""Intensity maps as MONAI has them, with gradients, and the short descriptions of them."""

from __future__ import annotations

import pytest
import torch
from monai import transforms as mt
from torch import nn

from medrecon.encoders.adapt import (
    ChannelMeanStd,
    Clip,
    Hounsfield,
    Percentiles,
    Rescale,
    Statistic,
    ZScore,
    intensity_map,
)
from medrecon.errors import ModelError


def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 7, 9, 5).round(decimals=1) * 100


PAIRS = {
    "rescale": (Rescale((-57, 164)), mt.ScaleIntensityRange(-57, 164, 0, 1)),
    "clipped": (Rescale((-57, 164), (-1, 1), True), mt.ScaleIntensityRange(-57, 164, -1, 1, clip=True)),
    "zscore": (ZScore(), mt.NormalizeIntensity()),
    "nonzero": (ZScore(True, True), mt.NormalizeIntensity(nonzero=True, channel_wise=True)),
    "minmax": (Percentiles(), mt.ScaleIntensity()),
    "percentiles": (
        Percentiles(1, 97.3, (0, 1), True, True),
        mt.ScaleIntensityRangePercentiles(1, 97.3, 0, 1, clip=True, channel_wise=True),
    ),
    "clip percentiles": (Percentiles(5, 90, None, True), mt.ClipIntensityPercentiles(5, 90)),
    "clip": (Clip(high=50.0), mt.ThresholdIntensity(50.0, above=False, cval=50.0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_as_monai_has_it(name: str) -> None:
    ours, theirs = PAIRS[name]
    given = image()
    torch.testing.assert_close(ours(given[None])[0], torch.as_tensor(theirs(given)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_reach_the_image(name: str) -> None:
    given = image()[None].requires_grad_()
    out = PAIRS[name][0](given)
    (out * torch.randn_like(out)).sum().backward()
    assert torch.isfinite(given.grad).all()
    assert given.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["zscore", "nonzero", "minmax", "percentiles"])
def test_constant_images_give_no_nan(name: str) -> None:
    given = torch.full((1, 2, 4, 4, 4), 3.0, requires_grad=True)
    out = PAIRS[name][0](given)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(given.grad).all()


def test_each_image_of_a_batch_by_itself() -> None:
    batch = torch.stack([image(), image() * 3 + 1])
    for name in ("zscore", "percentiles"):
        torch.testing.assert_close(PAIRS[name][0](batch)[1:], PAIRS[name][0](batch[1:]))


def test_hounsfield_and_channels() -> None:
    assert Hounsfield()(torch.tensor([0.0, 1.0])).tolist() == [-1024, 3071]
    grey = torch.full((1, 1, 2, 2), 0.5)
    assert ChannelMeanStd([0.5, 0.0], [1.0, 0.25])(grey)[0, :, 0, 0].tolist() == [0, 2]


def test_held_statistics() -> None:
    score = ZScore()
    score.hold()
    whole = score(image()[None])
    torch.testing.assert_close(score(image()[None, :, :3]), whole[:, :, :3])
    score.release()
    assert not torch.allclose(score(image()[None, :, :3]), whole[:, :, :3])


def test_descriptions() -> None:
    x = torch.rand(1, 1, 8, 8)
    window = intensity_map({"hu": [-57, 164]})
    assert window(torch.tensor([[[0.0, 1.0]]])).tolist() == [[[0, 1]]]
    hu = x * 4095 - 1024
    torch.testing.assert_close(intensity_map({"hu": [0, 100], "clip": False, "to": [-1, 1]})(x), hu / 50 - 1)
    assert intensity_map("imagenet")(x).shape == (1, 3, 8, 8)
    assert isinstance(intensity_map("zscore"), Statistic)
    assert intensity_map({"percentiles": [1, 99]}).lower == 1
    assert intensity_map({"mean": [0.5], "std": [0.5]})(x).shape == x.shape
    assert intensity_map(None) is None
    own = nn.Identity()
    assert intensity_map(own) is own


@pytest.mark.parametrize("wrong", ["imagnet", {"hu": 3}, {"window": [0, 1]}, 7, {"hu": [0, 1], "x": 1}])
def test_descriptions_that_mean_nothing(wrong: object) -> None:
    with pytest.raises(ModelError, match="there is no intensity map") as caught:
        intensity_map(wrong)
    assert "zscore" in str(caught.value)


def test_numbers_that_make_no_map() -> None:
    for make in (lambda: Rescale((1, 1)), lambda: Percentiles(5, 5), lambda: ChannelMeanStd([0], [0])):
        with pytest.raises(ModelError):
            make()
