"""What a training sees, sample by sample: the same from one process or many, interrupted or not."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import Dataset

from medrecon.errors import ModelError


@runtime_checkable
class CountsEpochs(Protocol):
    """A dataset that makes other items in each epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose items come next."""


class DrawnSamples(Dataset[Any]):
    """Items of a dataset, drawn by weight and varied by chance.

    Sample k of epoch e depends on (seed, e, k) alone: not on what was drawn before, nor on how many processes
    or workers share the epoch. Read in order, it is what a random sampler and random transforms give.

    Args:
        dataset: what is drawn from.
        weights: how often each of its items is drawn.
        length: samples in an epoch.
        seed: of the whole run.
        streams: transforms of the dataset that draw on their own (`set_random_state`), and datasets that
            make other items in each epoch (`set_epoch`).

    Raises:
        ModelError: the weights are not one for each item, or all are zero.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        weights: Sequence[float],
        length: int,
        seed: int = 0,
        streams: Sequence[Any] = (),
    ) -> None:
        total = np.cumsum(np.asarray(weights, np.float64))
        if not isinstance(dataset, Sized) or len(dataset) != len(total) or not len(total) or total[-1] <= 0:
            raise ModelError("there is nothing to draw samples from", remedy="name scans, or phantom_share 1")
        self.dataset = dataset
        self.chances = total / total[-1]
        self.length = int(length)
        self.seed = int(seed)
        self.epochs = [stream for stream in streams if isinstance(stream, CountsEpochs)]
        self.streams = [stream for stream in streams if not isinstance(stream, CountsEpochs)]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples come next (before a loader starts its workers)."""
        self.epoch = int(epoch)
        for dataset in self.epochs:
            dataset.set_epoch(self.epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> Any:
        if not 0 <= place < self.length:
            raise IndexError(f"sample {place} of {self.length}")
        return self.sample(place)

    def sample(self, place: int) -> Any:
        """The sample at a place, which may lie beyond the epoch's length."""
        chance = np.random.default_rng([self.seed, self.epoch, place])
        item = int(np.searchsorted(self.chances, chance.random(), side="right"))
        for stream in self.streams:
            stream.set_random_state(seed=int(chance.integers(2**32)))
        return self.dataset[item]
