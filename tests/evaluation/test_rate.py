"""Bits of features at 8 bits a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.evaluation.rate import STEPS, FeatureCode, SparseLayer, entropy_bits


def test_entropy_is_shannons():
    even = np.zeros((1, 256))
    even[0] = 10
    assert entropy_bits(even) == pytest.approx(8 * 2560)
    assert entropy_bits(np.array([[100, 0, 0]])) == 0
    assert entropy_bits(np.array([[8, 8], [16, 0]])) == 16
    skewed = entropy_bits(np.array([[900, 100]])) / 1000
    assert skewed == pytest.approx(0.468996, abs=1e-5)


def test_features_are_rounded_to_their_channels_steps_and_counted_over_tiles():
    torch.manual_seed(0)
    tiles = [{"a": torch.randn(2, 3, 6, 5, 4) * torch.tensor([1.0, 10, 100]).reshape(1, 3, 1, 1, 1)}] * 2
    code = FeatureCode()
    for tile in tiles:
        code.take_range(tile)
    for tile in tiles:
        coded = code.quantise(tile)["a"]
        flat, wide = tile["a"].movedim(1, 0).flatten(1), coded.movedim(1, 0).flatten(1)
        step = (flat.amax(1) - flat.amin(1)) / STEPS
        assert ((flat - wide).abs().amax(1) <= 0.5001 * step).all()
        assert len(wide[0].unique()) > 50
    assert 4 < code.bits_per_value("a") <= 8


def test_constant_features_take_no_bits():
    code = FeatureCode()
    features = {"a": torch.full((1, 2, 4, 4), 3.5)}
    code.take_range(features)
    assert torch.equal(code.quantise(features)["a"], features["a"])
    assert code.bits_per_value("a") == 0


def sparse_tiles(step: float) -> tuple[np.ndarray, list[dict[str, torch.Tensor]]]:
    """Two tiles of 8 channels: the first kept everywhere, the others in one of three sets."""
    rng = np.random.default_rng(0)
    sets = np.array([[1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 1, 1]], bool)
    tiles = []
    for _ in range(2):
        there = sets[rng.integers(0, 3, (1, 20, 20, 20))]
        size = np.array([200, 40, 4, 4, 4, 4, 4, 4]) * step
        values = rng.laplace(0, size, there.shape) * there
        tiles.append({"a": torch.from_numpy(values.astype(np.float32)).movedim(-1, 1)})
    return sets, tiles


def through(code: FeatureCode, tiles: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    for tile in tiles:
        code.take_range(tile)
    return [code.quantise(tile)["a"] for tile in tiles]


def test_zero_stays_zero_in_sparse_layers_and_one_step_is_for_all():
    sets, tiles = sparse_tiles(0.01)
    for tile, coded in zip(tiles, through(FeatureCode({"a": SparseLayer(sets, 0.01)}), tiles), strict=True):
        assert not coded[tile["a"] == 0].any()
        assert (coded - tile["a"]).abs().max() <= 0.00501
        assert torch.allclose((coded / 0.01).round() * 0.01, coded, atol=1e-6)


def test_sparse_layers_take_what_their_sets_and_values_take():
    sets, tiles = sparse_tiles(0.01)
    code = FeatureCode({"a": SparseLayer(sets, 0.01)})
    coded = torch.cat(through(code, tiles))
    levels = (coded / 0.01).round().long().movedim(1, 0).flatten(1)
    kept = torch.cat([tile["a"] for tile in tiles]).movedim(1, 0).flatten(1) != 0

    def entropy(symbols: torch.Tensor) -> float:
        share = symbols.unique(return_counts=True)[1] / symbols.numel()
        return float(-(share * share.log2()).sum()) * symbols.numel()

    ideal = entropy(kept[1] * 2 + kept[3]) + sum(entropy(levels[c][kept[c]]) for c in range(8))
    bits = code.bits_per_value("a") * kept.numel()
    assert 1 < bits / ideal < 1.06  # the histograms
    assert bits < 0.95 * sum(entropy(row) for row in levels)  # zeros coded one by one
    # finer than any image needs: a limit on the steps, not on the truth of the count
    fine = FeatureCode({"a": SparseLayer(sets, 1e-12)})
    assert max((a - b["a"]).abs().max() for a, b in zip(through(fine, tiles), tiles, strict=True)) < 0.002
    assert fine.bits_per_value("a") > code.bits_per_value("a")


def test_values_too_few_for_their_histogram_are_not_free():
    sets = np.ones((1, 300), bool)
    sets = np.concatenate([sets, np.zeros((1, 300), bool)])
    values = torch.randn(1, 300, 2, 1, 1)
    code = FeatureCode({"a": SparseLayer(sets, 0.01)})
    through(code, [{"a": values}])
    assert code.bits_per_value("a") > 6, "each channel's own histogram would tell two values by one bit each"


def test_a_value_that_happens_to_be_zero_is_kept_all_the_same():
    sets, tiles = sparse_tiles(0.01)
    tiles[0]["a"][:, 1, :3] = 0
    code = FeatureCode({"a": SparseLayer(sets, 0.01)})
    through(code, tiles)
    assert code._counts["a"].sets.sum() == 2 * 8000
    stranger = {"a": torch.ones(1, 8, 2, 2, 2)}
    with pytest.raises(ValueError, match="that no set of its encoder has"):
        through(FeatureCode({"a": SparseLayer(sets, 0.01)}), [stranger])
