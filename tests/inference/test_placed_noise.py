"""Noise that is tied to the place."""

from __future__ import annotations

import pytest
import torch

from medrecon.inference.placed_noise import BLOCK, placed_noise

SHAPE = (150, 70, 19)


def test_a_part_has_the_noise_of_the_whole() -> None:
    whole = placed_noise(SHAPE, seed=3, number=1)
    for low, size in (((0, 0, 0), (5, 5, 5)), ((61, 60, 7), (10, 10, 2)), ((149, 69, 18), (1, 1, 1))):
        part = placed_noise(size, seed=3, number=1, start=low)
        inside = whole[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))]
        assert torch.equal(part, inside)


def test_it_is_white_and_normal() -> None:
    noise = placed_noise((128, 128, 16), seed=0, number=0)
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    for axis, side in enumerate(BLOCK):  # neither from voxel to voxel nor from block to block
        for shift in (1, side):
            here, there = noise.narrow(axis, 0, side), noise.narrow(axis, shift, side)
            assert abs(float((here * there).mean())) < 0.02


@pytest.mark.parametrize(
    "other", [{"seed": 4, "number": 1}, {"seed": 3, "number": 2}, {"seed": 1, "number": 3}]
)
def test_another_seed_or_number_is_other_noise(other: dict[str, int]) -> None:
    one, two = placed_noise((32, 32, 4), seed=3, number=1), placed_noise((32, 32, 4), **other)
    assert abs(float((one * two).mean())) < 0.05
