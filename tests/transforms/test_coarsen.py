"""Random pieces: at the scan's own resolution, or coarser along one axis or all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medrecon.transforms import RandCoarseCropd

SHAPE = (24, 20, 12)


def image(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> MetaTensor:
    values = torch.arange(np.prod(SHAPE), dtype=torch.float32).reshape(1, *SHAPE)
    return MetaTensor(values, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))


def cut(crop: RandCoarseCropd, source: torch.Tensor, seed: int) -> torch.Tensor:
    crop.set_random_state(seed=seed)
    return crop({"image": source})["image"]


def test_without_chance_it_is_a_random_crop() -> None:
    crop = RandCoarseCropd("image", (8, 6, 4), prob=0.0)
    seen = {float(cut(crop, image(), seed)[0, 0, 0, 0]) for seed in range(60)}
    piece = cut(crop, image(), 0)
    assert type(piece) is torch.Tensor
    assert piece.shape == (1, 8, 6, 4)
    x, y, z = np.unravel_index(int(piece[0, 0, 0, 0]), SHAPE)
    assert torch.equal(piece, image().as_tensor()[:, x : x + 8, y : y + 6, z : z + 4])
    assert len(seen) > 50
    ends = [np.unravel_index(int(value), SHAPE) for value in seen]
    assert max(end[2] for end in ends) == 8, "it reaches the far end"
    assert min(end[2] for end in ends) == 0


def test_a_coarse_piece_is_made_of_means() -> None:
    crop = RandCoarseCropd("image", (8, 6, 4), prob=1.0, factors=[2])
    steps = set()
    for seed in range(80):
        piece = cut(crop, image(), seed)[0]
        assert piece.shape == (8, 6, 4)
        first = (
            piece[1, 0, 0] - piece[0, 0, 0],
            piece[0, 1, 0] - piece[0, 0, 0],
            piece[0, 0, 1] - piece[0, 0, 0],
        )
        means = tuple(round(float(d) / full) for d, full in zip(first, (240, 12, 1), strict=True))
        steps.add(means)
        start = float(piece[0, 0, 0]) - sum(f * (m - 1) / 2 for f, m in zip((240, 12, 1), means, strict=True))
        assert start == int(start), "the mean of a whole number of voxels"
    assert steps == {(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2)}


def test_thick_slices_and_short_axes_stay_as_they_are() -> None:
    crop = RandCoarseCropd("image", (8, 6, 4), prob=1.0, factors=(2, 3), max_spacing=6.0)
    assert crop.options(SHAPE, (1, 1, 5)) == [(2, 1, 1), (3, 1, 1), (1, 2, 1), (1, 3, 1)]
    assert crop.options((8, 20, 12), (1, 1, 1)) == [(1, 2, 1), (1, 3, 1), (1, 1, 2), (1, 1, 3)]
    assert crop.options((8, 6, 4), (1, 1, 1)) == []
    assert cut(crop, image((9, 9, 9)), 0).shape == (1, 8, 6, 4)


def test_a_slice_may_become_thicker_and_a_small_image_stays_whole() -> None:
    slices = RandCoarseCropd("image", (8, 6, 1), prob=1.0, factors=[4])
    assert slices.options((8, 6, 12), (1, 1, 1)) == [(1, 1, 4)]
    assert cut(slices, image(), 1).shape == (1, 8, 6, 1)
    assert cut(RandCoarseCropd("image", (32, 6, 4)), image(), 0).shape == (1, 24, 6, 4)


def test_the_source_is_left_alone_and_the_seed_decides() -> None:
    crop, source = RandCoarseCropd("image", (8, 6, 4), prob=0.5), image()
    first = cut(crop, source, 3)
    first.add_(1)
    assert torch.equal(source.as_tensor(), image().as_tensor())
    assert torch.equal(cut(crop, source, 3) + 1, first)


def test_a_factor_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="2 voxels or more"):
        RandCoarseCropd("image", (8, 8, 8), factors=[1])
