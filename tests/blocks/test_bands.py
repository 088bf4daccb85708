"""Bands of frequency: their sum is the image, they part frequencies, and a cut does not show."""

from __future__ import annotations

import math

import pytest
import torch

from medrecon.blocks.bands import BANDS, REACH, split_bands


@pytest.mark.parametrize("shape", [(1, 1, 40, 37), (2, 1, 20, 3, 17)])
def test_their_sum_is_the_image(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    bands = split_bands(image)
    assert len(bands) == BANDS
    assert torch.allclose(torch.stack(bands).sum(0), image, atol=1e-6)


@pytest.mark.parametrize(("period", "band"), [(2.5, 0), (6, 1), (12, 2), (40, 3)])
def test_a_wave_is_mostly_in_the_band_of_its_period(period: float, band: int) -> None:
    wave = torch.cos(2 * math.pi * torch.arange(240.0) / period)[None, None, :, None].expand(1, 1, 240, 8)
    strength = torch.stack([each[..., 40:200, :].square().mean() for each in split_bands(wave)])
    assert int(strength.argmax()) == band


def test_a_part_with_its_surroundings_has_the_bands_of_the_whole() -> None:
    image = torch.rand(1, 1, 96, 16, generator=torch.Generator().manual_seed(1))
    part = split_bands(image[..., 30 - REACH : 60 + REACH, :])
    for band, cut in zip(split_bands(image), part, strict=True):
        assert torch.allclose(band[..., 30:60, :], cut[..., REACH:-REACH, :], atol=1e-6)
