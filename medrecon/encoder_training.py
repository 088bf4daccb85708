"""What training needs before its first step where an encoder is fitted, not descended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from medrecon.decoder_training import draw_once
from medrecon.reconstructor import Reconstructor


def fit_encoder(
    network: Reconstructor,
    dataset: Dataset[Any],
    weights: Sequence[float],
    seed: int,
    streams: Sequence[Any] = (),
    count: int = 160,
) -> None:
    """Fit the sets of coefficients of an `AdaptiveEncoder` to patches of the training data.

    Args:
        network: its encoder has `fit`.
        dataset: gives another patch each time: {"image": (1, *spatial)}.
        weights: how often each of its items is drawn.
        seed: the same gives the same sets.
        streams: transforms that draw on their own (`set_random_state`).
        count: patches to look at.
    """
    patches = draw_once(dataset, weights, count, seed, streams)
    images = (torch.as_tensor(patch["image"]).float() for patch in patches)
    network.encoder.fit((image.reshape(1, 1, *image.shape[1:]) for image in images), seed)
