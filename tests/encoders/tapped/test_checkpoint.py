"""Checkpoints as trainers write them: wrapped, nested, averaged, with heads that others need."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medrecon.encoders.tapped.checkpoint import load_checkpoint
from medrecon.errors import ModelError


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 2, 1)))


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


PREFIXES = ["", "module.", "_orig_mod.", "model.", "net.", "student.backbone."]


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(PREFIXES, PREFIXES)))
def test_prefixes_in_any_combination(tmp_path: Path, outer: str, inner: str) -> None:
    source, target = network(0), network(1)
    torch.save({f"{outer}{inner}{k}": v for k, v in source.state_dict().items()}, tmp_path / "a.pt")
    assert load_checkpoint(target, tmp_path / "a.pt") == []
    assert same(source, target)


def test_wrappers_within_names(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {f"model.{k.replace('2.0', '2._orig_mod.0')}": v for k, v in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    load_checkpoint(target, tmp_path / "a.pt")
    assert same(source, target)


@pytest.mark.parametrize(
    "keys", [("network_weights",), ("ema",), ("weights", "params"), ("a", "b", "teacher")]
)
def test_nested_under_any_name_beside_numbers(tmp_path: Path, keys: tuple[str, ...]) -> None:
    source, target = network(0), network(1)
    content: dict[str, Any] = dict(source.state_dict())
    for key in reversed(keys):
        content = {key: content, "epoch": np.int64(3), "best": np.float32(0.5), "name": "x"}
    torch.save(content, tmp_path / "a.pt")
    load_checkpoint(target, tmp_path / "a.pt")
    assert same(source, target)


def test_means_over_the_training_are_taken_when_asked_for(tmp_path: Path) -> None:
    raw, mean, target = network(0), network(1), network(2)
    torch.save({"model_ema": mean.state_dict(), "model": raw.state_dict()}, tmp_path / "a.pt")
    [note] = load_checkpoint(target, tmp_path / "a.pt")
    assert "taken are those under 'model', not model_ema" in note
    assert same(target, raw)
    load_checkpoint(target, tmp_path / "a.pt", key="model_ema")
    assert same(target, mean)
    with pytest.raises(ModelError, match="it holds no 'teacher'"):
        load_checkpoint(target, tmp_path / "a.pt", key="teacher")


def test_more_and_less_than_the_network(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({**state, "head.weight": torch.ones(2)}, tmp_path / "more.pt")
    [note] = load_checkpoint(target, tmp_path / "more.pt")
    assert note == "1 tensors of the checkpoint are no part of the network, such as head.weight"
    assert torch.equal(target[0].weight, source[0].weight)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    torch.save({k: v for k, v in state.items() if k != "0.bias"}, tmp_path / "less.pt")
    with pytest.raises(ModelError, match=r"do not fit Sequential: 0\.bias is missing"):
        load_checkpoint(target, tmp_path / "less.pt")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items()), "nothing half loaded"


class Old(nn.Module):
    """Takes the names of an older release by itself, as MONAI's autoencoders do."""

    def __init__(self, complete: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.complete = complete

    def load_old_state_dict(self, old: dict[str, torch.Tensor]) -> None:
        state = self.state_dict()
        state["conv.weight"] = old["old.weight"]
        if self.complete:
            state["conv.bias"] = old["old.bias"]
        self.load_state_dict(state)


def test_names_of_an_older_release(tmp_path: Path) -> None:
    torch.save({"old.weight": torch.ones(2, 1, 1, 1), "old.bias": torch.ones(2)}, tmp_path / "a.pt")
    target = Old()
    load_checkpoint(target, tmp_path / "a.pt")
    assert all(bool((v == 1).all()) for v in target.state_dict().values())
    partial = Old(complete=False)
    before = partial.conv.bias.clone()
    with pytest.raises(ModelError, match="do not fit Old"):
        load_checkpoint(partial, tmp_path / "a.pt")
    assert torch.equal(partial.conv.bias, before)
