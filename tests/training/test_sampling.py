"""Samples that know their place: the same in any order, from any process, after any interruption."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import RandFlip
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler

from medrecon.errors import ModelError
from medrecon.phantoms import PhantomDataset
from medrecon.training.sampling import DrawnSamples


class Flipped(Dataset[torch.Tensor]):
    """Item i is (i, -i - 1), turned round half of the time."""

    def __init__(self, length: int = 4) -> None:
        self.length = length
        self.flip = RandFlip(prob=0.5, spatial_axis=0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.as_tensor(self.flip(torch.tensor([[index, -index - 1.0]])))


def drawn(length: int = 40, seed: int = 5, epoch: int = 1) -> DrawnSamples:
    dataset = Flipped()
    samples = DrawnSamples(dataset, [1, 0, 3, 0], length, seed, [dataset.flip])
    samples.set_epoch(epoch)
    return samples


def values(samples: Any) -> list[tuple[float, ...]]:
    return [tuple(item.flatten().tolist()) for item in samples]


def test_a_sample_depends_on_seed_epoch_and_place_alone() -> None:
    forward = values(drawn()[k] for k in range(40))
    backward = drawn()
    torch.rand(9)
    assert values(backward[k] for k in reversed(range(40))) == forward[::-1]
    assert values(drawn(length=7)[k] for k in range(7)) == forward[:7]
    assert values(drawn(epoch=2)[k] for k in range(40)) != forward
    assert values(drawn(seed=6)[k] for k in range(40)) != forward


def test_items_are_drawn_by_weight_and_varied() -> None:
    seen = values(drawn(400)[k] for k in range(400))
    items = [int(max(pair)) for pair in seen]
    assert set(items) == {0, 2}
    assert items.count(2) / 400 == pytest.approx(0.75, abs=0.06)
    turned = [pair[0] < 0 for pair in seen]
    assert sum(turned) / 400 == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_see_the_batches_of_one(processes: int) -> None:
    whole = [set(values(batch)) for batch in DataLoader(drawn(), batch_size=4)]
    parts = []
    for rank in range(processes):
        sampler: Any = DistributedSampler(drawn(), processes, rank, shuffle=False)
        parts.append(list(DataLoader(drawn(), batch_size=4 // processes, sampler=sampler)))
    assert [set().union(*map(values, step)) for step in zip(*parts, strict=True)] == whole


def test_workers_change_nothing() -> None:
    here = torch.cat(list(DataLoader(drawn(8), batch_size=2)))
    assert torch.equal(torch.cat(list(DataLoader(drawn(8), batch_size=2, num_workers=2))), here)


def test_the_epoch_reaches_what_makes_other_items_in_each() -> None:
    phantoms = PhantomDataset(3, (8, 8, 8), seed=1)
    samples = DrawnSamples(ConcatDataset([Flipped(1), phantoms]), [0, 1, 1, 1], 2, 0, [phantoms])
    samples.set_epoch(4)
    assert phantoms.epoch == 4
    first = np.asarray(samples[0]["image"])
    samples.set_epoch(5)
    assert not np.array_equal(np.asarray(samples[0]["image"]), first)


@pytest.mark.parametrize("weights", [[1, 1], [0, 0, 0, 0]])
def test_nothing_to_draw_is_refused(weights: list[float]) -> None:
    with pytest.raises(ModelError, match="nothing to draw"):
        DrawnSamples(Flipped(), weights, 3)


def test_it_ends() -> None:
    assert len(list(drawn(3))) == len(drawn(3)) == 3
    with pytest.raises(IndexError):
        drawn(3)[-1]
