"""What training a decoder over a frozen encoder needs besides `medrecon.training.data`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from medrecon.reconstructor import Reconstructor
from medrecon.training.checkpoints import checkpoints_in


def draw_once(
    dataset: Dataset[Any], weights: Sequence[float], count: int, seed: int, streams: Sequence[Any] = ()
) -> list[Any]:
    """Fixed training patches, drawn now: what is computed for them can be kept (`CachedEncoder`).

    Args:
        dataset: gives another patch each time.
        weights: how often each of its items is drawn.
        count: patches.
        seed: the same gives the same patches.
        streams: transforms that draw on their own (`set_random_state`).
    """
    for stream in streams:
        stream.set_random_state(seed=seed)
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(
        torch.tensor(weights, dtype=torch.float64), count, replacement=True, generator=chance
    )
    return [dataset[int(index)] for index in drawn]


def fit_decoder(
    network: Reconstructor,
    batches: Iterable[Mapping[str, torch.Tensor]],
    device: torch.device,
    count: int = 48,
    folder: str | Path | None = None,
) -> None:
    """Fit what a decoder over a frozen encoder does not train: the scale of features, linear inverses.

    Args:
        network: its inversion also remembers the encoder's fingerprint.
        batches: training batches with an `image`, of which the first `count` are looked at.
        device: where the network is.
        count: batches to look at.
        folder: of the run; a checkpoint in it, from which it goes on, holds what was fitted.
    """
    if folder is not None and checkpoints_in(folder):
        return
    # again from the start where there are fewer: an epoch of a short training has too few to fit to
    passes = itertools.chain.from_iterable(itertools.repeat(batches, count))
    network.fit([batch["image"] for batch in itertools.islice(passes, count)], device)
