"""What a decoder over a frozen encoder is fitted to, and patches that are drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import RandFlip

from medrecon.contract import Decoder, Encoder, Features, LayerInfo
from medrecon.reconstructor import Reconstructor
from medrecon.training.decoders import draw_once, fit_decoder


class FittedTo(Decoder):
    """An inversion that notes what it is fitted to."""

    names = ("feature",)

    def forward(self, features: Features, shape: Sequence[int], progress: Any = None) -> torch.Tensor:
        return features["feature"]

    def fit(self, batches: Sequence[Any]) -> None:
        self.images = [float(image.mean()) for _, image in batches]

    def remember(self, encoder_fingerprint: str) -> None:
        self.encoder = encoder_fingerprint


class Sees(Encoder):
    """A layer that is the image."""

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("feature", 1, (1, 1))]

    def forward(self, image: torch.Tensor, names: Any = None) -> Features:
        return {"feature": image}


def test_a_decoder_is_fitted_to_enough_batches_also_where_an_epoch_is_short() -> None:
    network = Reconstructor(Sees(), FittedTo())
    batches = [{"image": torch.full((1, 1, 2, 2), float(value))} for value in range(3)]
    fit_decoder(network, batches, torch.device("cpu"), count=7)
    assert network.inversion.images == [0, 1, 2, 0, 1, 2, 0]
    assert len(network.inversion.encoder) == 64


def test_a_run_that_goes_on_has_what_was_fitted_in_its_checkpoint(tmp_path: Path) -> None:
    network = Reconstructor(Sees(), FittedTo())
    batches = [{"image": torch.zeros(1, 1, 2, 2)}]
    fit_decoder(network, batches, torch.device("cpu"), 1, tmp_path)
    assert network.inversion.images == [0]
    (tmp_path / "checkpoint_epoch=3.pt").touch()
    network.inversion.images.clear()
    fit_decoder(network, batches, torch.device("cpu"), 1, tmp_path)
    assert network.inversion.images == []


def test_patches_drawn_once_depend_on_the_seed_alone_and_on_the_weights() -> None:
    flip = RandFlip(prob=0.5, spatial_axis=0)

    class Flipped(torch.utils.data.Dataset[torch.Tensor]):
        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.as_tensor(flip(torch.tensor([[index, -index - 1.0]])))

    def draw(seed: int) -> list[list[float]]:
        torch.rand(3)  # whatever happened to the global stream before
        return [item[0].tolist() for item in draw_once(Flipped(), [1, 0, 3], 40, seed, [flip])]

    first = draw(7)
    assert draw(7) == first
    assert draw(8) != first
    assert {abs(a + b) for a, b in first} == {1.0}
    drawn = [max(pair) for pair in first]
    assert 1.0 not in drawn, "an item of no weight"
    assert drawn.count(2.0) > drawn.count(0.0) > 0
    assert {pair[0] >= 0 for pair in first} == {True, False}, "the transform draws, too"
