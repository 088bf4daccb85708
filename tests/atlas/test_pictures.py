"""Pictures of features lie where the layer lies: the brightest position is over the spot that made it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medrecon.atlas import pictures
from medrecon.atlas.pictures import Pictures
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.evaluation.scores import AtlasVolumes, LayerPictures
from medrecon.report.gallery import gallery, picked_slice
from medrecon.report.planes import make_view

CPU = torch.device("cpu")
SHAPE = (24, 20, 12)
TURNED = np.array([[0.0, -1.1, 0, 5], [0.9, 0, 0, -7], [0, 0, 2.0, 3], [0, 0, 0, 1]])
"""A grid whose first axis runs to anterior and whose second runs to left."""


def spot(place: tuple[float, ...], shape: tuple[int, ...] = SHAPE, affine: np.ndarray = TURNED) -> MetaTensor:
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    apart = sum((g - p) ** 2 for g, p in zip(grid, place, strict=True))
    image = np.exp(-apart / 12).astype(np.float32)[None]
    return MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(affine))


def patches(dims: int, channels: int = 5, side: int = 4) -> TappedEncoder:
    """Means of patches, each channel weaker than the one before: channel 4 is the strongest."""
    conv = getattr(nn, f"Conv{dims}d")(1, channels, side, side, bias=False)
    with torch.no_grad():
        for channel in range(channels):
            conv.weight[channel] = (1.0 + channel) / side**dims
    return TappedEncoder(nn.Sequential(conv), ["0"], spatial_dims=dims, in_channels=1)


def made(encoder: TappedEncoder, image: MetaTensor) -> LayerPictures:
    return Pictures(encoder, encoder.layers(), CPU).of(image)["0"]


def centre(image: np.ndarray) -> np.ndarray:
    weights = image.astype(np.float64)
    return np.array(
        [(np.arange(n) * weights.sum(1 - a)).sum() / weights.sum() for a, n in enumerate(image.shape)]
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("coarser", [1, 2])
def test_features_lie_over_what_made_them(dims: int, coarser: int) -> None:
    """Also where the network's grid is another than the scan's."""
    place = (13.5, 9.5, 5.5)
    affine = TURNED @ np.diag([coarser, coarser, coarser, 1.0])
    shown = made(patches(dims, side=2), spot(tuple(p / coarser for p in place), SHAPE, affine))
    source = spot(place)
    view = make_view(np.asarray(source[0]), (0.9, 1.1, 2.0), TURNED, at=(13, 9, 5))
    picked = picked_slice(shown, TURNED, SHAPE, view, "axial")
    cut = view.cut(np.asarray(source[0]), "axial")
    assert picked.shape == (3 + 4, *cut.shape)
    assert np.abs(centre(picked[3]) - centre(cut)).max() < 0.5


def test_the_strongest_channels_come_first_and_colours_hold_the_variance() -> None:
    shown = made(patches(3), spot((12, 10, 6)))
    assert shown.channels == (4, 3, 2, 1)
    assert shown.strongest.shape == (4, 6, 5, 3)
    assert shown.colours.shape == (3, 6, 5, 3)
    assert shown.shares[0] == pytest.approx(1.0, abs=1e-3)
    assert (shown.strongest[0].min(), shown.strongest[0].max()) == (0, 255)
    assert shown.ends[0][1] > shown.ends[0][0]


def test_what_does_not_fit_into_memory_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "free_bytes", lambda device: 100)
    maker = Pictures(patches(3), patches(3).layers(), CPU)
    assert maker.of(spot((12, 10, 6))) == {}
    assert maker.notes == ["features not shown, too large: 0"]


def test_a_gallery_shows_colours_and_channels_and_black_outside() -> None:
    image = spot((12, 10, 6))
    shown = made(patches(3), image)
    view = make_view(np.asarray(image[0]), (0.9, 1.1, 2.0), TURNED)
    volumes = AtlasVolumes(np.asarray(image[0]), TURNED, features={"0": shown})
    row = gallery(volumes, view)["0"]
    assert [each.caption for each in row[1:]] == ["channel 4", "channel 3", "channel 2", "channel 1"]
    assert row[0].caption == "100% of the variance"
    assert len({each.picture for each in row[:2]}) == 2
    moved = TURNED.copy()
    moved[:3, 3] += 1000
    assert not picked_slice(shown, moved, SHAPE, view, "axial").any()
