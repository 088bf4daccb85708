"""A scan whose slices tell little of each other is said to be one; others pass in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.evaluation import dct_code
from medrecon.inference.thick_slices import advice, gain_of_slices


def smooth(shape: tuple[int, ...], across: float) -> torch.Tensor:
    """A random volume, smooth in its slices; `across`: how much a slice is like the next, 0 to 1."""
    rng = np.random.default_rng(0)
    volume = np.cumsum(np.cumsum(rng.normal(size=shape), axis=0), axis=1)
    for z in range(1, shape[2]):
        volume[..., z] = across * volume[..., z - 1] + np.sqrt(1 - across**2) * volume[..., z]
    return torch.from_numpy(volume).float()


@pytest.mark.parametrize("across", [0.0, 0.995])
def test_the_gain_is_that_of_the_two_controls(across: float) -> None:
    volume = smooth((64, 48, 32), across)
    errors = [
        np.square(dct_code(volume.numpy(), 1 / 16, block) - volume.numpy()).mean()
        for block in ((16, 16, 16), (16, 16, 1))
    ]
    assert gain_of_slices(volume) == pytest.approx(10 * np.log10(errors[0] / errors[1]), abs=0.05)
    assert (gain_of_slices(volume) > 1) == (across == 0)


def test_advice_needs_thick_slices_and_a_gain() -> None:
    thick, thin = np.diag([1.0, 1.0, 6.0, 1.0]), np.eye(4)
    apart, alike = smooth((64, 48, 11), 0.0), smooth((64, 48, 40), 0.999)
    told = advice(apart, thick, "slice_autoencoder")
    assert told is not None
    assert "6.0 mm apart" in told
    assert "--bundle slice_autoencoder" in told
    assert advice(apart, thin, "slice_autoencoder") is None
    assert advice(alike, thick, "slice_autoencoder") is None
    assert advice(torch.zeros(32, 32, 8), thick, "slice_autoencoder") is None
