"""A linear read-out tells what can be told, is asked only where it was not fitted, and guesses at nothing."""

from __future__ import annotations

import numpy as np
import pytest

from medrecon.errors import UsageError
from medrecon.evaluation.linear_probe import Places, linear_probe, shuffled


def made(noise: float, places: int = 600, groups: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features in which three labels lie apart, as far as the noise allows."""
    rng = np.random.default_rng(0)
    labels = rng.choice([2, 5, 9], size=places, p=[0.7, 0.2, 0.1])
    features = np.eye(10)[labels] + noise * rng.normal(size=(places, 10))
    return features, labels, rng.integers(groups, size=places)


def test_what_lies_apart_is_told_and_noise_is_chance() -> None:
    features, labels, groups = made(0.1)
    score = linear_probe(features, labels, groups)
    assert score.accuracy > 0.99
    assert (score.labels, score.places, score.values) == (3, 600, 10)
    assert score.chance == pytest.approx(1 / 3)
    control = linear_probe(features, shuffled(labels, groups), groups)
    assert control.accuracy == pytest.approx(1 / 3, abs=0.1)
    assert 0.5 < linear_probe(*made(0.6)).accuracy < 0.95


def test_scale_and_place_of_the_features_do_not_matter() -> None:
    features, labels, groups = made(0.5)
    plain = linear_probe(features, labels, groups)
    assert linear_probe(1e4 * features + 77, labels, groups).accuracy == pytest.approx(plain.accuracy)


def test_rare_labels_count_as_much() -> None:
    """A read-out that always says the commonest label has the accuracy of chance."""
    _, labels, groups = made(0)
    score = linear_probe(np.zeros((600, 1)), labels, groups)
    assert score.accuracy == pytest.approx(1 / 3, abs=0.05)


def test_a_group_is_not_told_by_what_it_taught() -> None:
    """Features that name the group alone: within a group the label is always the same."""
    groups = np.repeat(np.arange(20), 30)
    labels = np.random.default_rng(1).integers(2, size=20)[groups]
    assert linear_probe(np.eye(20)[groups], labels, groups).accuracy < 0.7


def test_too_little_is_refused() -> None:
    features, labels, groups = made(0.1)
    for wrong in (np.zeros_like(labels), np.where(np.arange(600) < 10, 1, 0)):
        with pytest.raises(UsageError, match="two labels"):
            linear_probe(features, wrong, groups)
    with pytest.raises(UsageError, match="two labels"):
        linear_probe(features, labels, np.zeros_like(groups))


def test_blocks_do_not_touch_and_labels_are_the_commonest() -> None:
    mask = np.zeros((64, 64, 16), np.uint8)
    mask[40:] = 3
    places = Places(mask, cell=(4, 4, 4), block=8)
    assert len(places.index) == 12 * 12 * 4, "16 x 16 x 4 cells less the rims of blocks of 8"
    assert len(np.unique(places.groups)) == 4
    for one in np.unique(places.groups):
        for other in np.unique(places.groups):
            if one != other:
                apart = np.abs(
                    places.index[places.groups == one][:, None] - places.index[places.groups == other][None]
                ).max(-1)
                assert apart.min() == 3, "two cells between them"
    assert np.array_equal(places.labels == 3, places.index[:, 0] >= 10)


@pytest.mark.parametrize("dims", [2, 3])
def test_features_are_those_of_the_position_that_holds_the_cell(dims: int) -> None:
    mask = np.zeros((32, 24, 16), np.uint8)
    places = Places(mask, cell=(4, 4, 4) if dims == 3 else (4, 4, 1))
    x, y, z = np.meshgrid(*(np.arange(n) for n in mask.shape), indexing="ij")
    volume = (x + 100 * y + 10000 * z).astype(np.float32)
    maps = volume[::8, ::8, ::8][None] if dims == 3 else volume[::8, ::8].transpose(2, 0, 1)[:, None]
    read = places.read(maps, (8,) * dims)[:, 0]
    middle = places.index * places.cell + np.array(places.cell) // 2
    expected = middle.copy()
    expected[:, :dims] -= middle[:, :dims] % 8
    assert np.array_equal(read, expected @ [1, 100, 10000])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_control_reads_the_same_voxels(dims: int) -> None:
    volume = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    places = Places(np.zeros(volume.shape, int), cell=(8, 8, 8) if dims == 3 else (8, 8, 1))
    found = places.read_dct(volume, (8,) * dims, 8**dims)
    for row, place in zip(found, places.index, strict=True):
        first = place * places.cell
        part = volume[tuple(slice(f, f + c) for f, c in zip(first, places.cell, strict=True))]
        assert row[0] == pytest.approx(part.mean() * 8 ** (dims / 2), abs=1e-3)
