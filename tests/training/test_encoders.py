"""The encoder is fitted to samples that no step sees, the same ones each time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from medrecon.encoders import AdaptiveEncoder, PlainEncoder
from medrecon.training.encoders import fit_encoder
from medrecon.training.sampling import DrawnSamples


class Noise(Dataset[dict[str, Any]]):
    """Four images of noise, each of another colour."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(index))
        return {"image": image.cumsum(1 + index % 2)}


def fitted(length: int, seed: int = 3) -> torch.Tensor:
    network: Any = nn.Module()
    network.encoder = AdaptiveEncoder(2, orders=3, steps=4)
    before = network.encoder.masks.clone()
    torch.rand(5)
    fit_encoder(network, DrawnSamples(Noise(), [1, 1, 1, 1], length, seed), 6)
    assert not torch.equal(network.encoder.masks, before)
    return network.encoder.masks


def test_the_seed_alone_decides_not_the_size_of_an_epoch() -> None:
    assert torch.equal(fitted(2), fitted(50))
    assert not torch.equal(fitted(2), fitted(2, seed=4))


def test_an_encoder_with_nothing_to_fit_is_left_alone() -> None:
    network: Any = nn.Module()
    network.encoder = PlainEncoder(2, channels=(2, 2))
    before = {name: part.clone() for name, part in network.encoder.state_dict().items()}
    fit_encoder(network, DrawnSamples(Noise(), [1, 1, 1, 1], 2))
    after = network.encoder.state_dict()
    assert all(torch.equal(after[name], part) for name, part in before.items())
