"""The dataset: an item depends on (seed, epoch, index) and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from medrecon.phantoms import PhantomDataset


def test_items_have_the_asked_form():
    dataset = PhantomDataset(3, (24, 20, 12), seed=1)
    assert len(dataset) == 3
    for item in dataset:
        assert set(item) == {"image", "units"}
        assert item["image"].shape == (1, 24, 20, 12)
        assert item["image"].dtype == torch.float32
        assert item["units"] in ("HU", "")


def test_an_item_depends_on_seed_epoch_and_index_alone():
    first, second = (PhantomDataset(4, (16, 16, 16), seed=7) for _ in range(2))
    expected = [first[i]["image"] for i in range(4)]
    for i in (3, 1, 0, 2):
        assert torch.equal(second[i]["image"], expected[i])
    second.set_epoch(1)
    assert not torch.equal(second[0]["image"], expected[0])
    second.set_epoch(0)
    assert torch.equal(second[0]["image"], expected[0])
    assert not torch.equal(PhantomDataset(4, (16, 16, 16), seed=8)[0]["image"], expected[0])
    assert not any(torch.equal(expected[0], other) for other in expected[1:])


def test_workers_change_nothing():
    dataset = PhantomDataset(4, (16, 16, 16), seed=3, modality="MR")
    alone = [dataset[i]["image"] for i in range(4)]
    loaded = list(DataLoader(dataset, batch_size=1, num_workers=2))
    for one, batch in zip(alone, loaded, strict=True):
        assert torch.equal(one, batch["image"][0])
        assert batch["units"] == [""]


def test_the_end_is_an_end():
    with pytest.raises(IndexError, match="item 2 of 2"):
        PhantomDataset(2, (16, 16, 16))[2]


def test_transform_gets_the_item():
    dataset = PhantomDataset(1, (16, 16, 16), transform=lambda item: item["image"].shape)
    assert dataset[0] == (1, 16, 16, 16)


def test_both_modalities_turn_up():
    units = [PhantomDataset(30, (8, 8, 8))[i]["units"] for i in range(30)]
    assert 5 <= units.count("HU") <= 25
    assert np.all([u in ("HU", "") for u in units])
