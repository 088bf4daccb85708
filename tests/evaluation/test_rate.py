"""Bits of features at 8 bits a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.evaluation.rate import STEPS, FeatureCode, entropy_bits


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
