"""Checkpoints as trainers write them: wrapped, nested, averaged, with heads that others need."""

from __future__ import annotations

import argparse
import itertools
import shutil
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


class Settings:
    """A class of a trainer's own."""

    def __init__(self) -> None:
        self.rate = 0.1


class Runs:
    """Would copy a file, if what it says were called."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.copyfile, (__file__, self.place)


def trained(kind: str, raw: nn.Module, mean: nn.Module, place: Path) -> dict[str, Any]:
    """Checkpoints as timm, Lightning and nnU-Net lay them out, with objects that are no tensors."""
    arguments = argparse.Namespace(lr=0.1, data=Path("/data"), settings=Settings(), trap=Runs(place))
    whole = {f"net.{name}": value for name, value in raw.state_dict().items()}
    averaged = {f"net.{name}": value for name, value in mean.state_dict().items()}
    return {
        "timm": {
            **{"epoch": 3, "arch": "resnet10t", "state_dict": raw.state_dict(), "args": arguments},
            **{"optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "version": 2, "metric": 0.5},
            "state_dict_ema": mean.state_dict(),
        },
        "lightning": {
            **{"epoch": 1, "pytorch-lightning_version": "2.6.6", "hyper_parameters": {"cfg": arguments}},
            **{
                "callbacks": {"EMA": {"ema": averaged}},
                "state_dict": {**whole, "loss.weight": torch.ones(2)},
            },
            "optimizer_states": [{"state": {}, "param_groups": []}],
        },
        "averaged": {  # Lightning's own averaging: the mean is under state_dict
            **{"state_dict": averaged, "current_model_state": whole},
            **{"averaging_state": {"n_averaged": torch.tensor(3)}, "hyper_parameters": arguments},
        },
        "nnunet": {
            **{"network_weights": raw.state_dict(), "init_args": {"device": torch.device("cpu")}},
            **{"logging": {"epoch": np.int64(3)}, "trainer_name": "x", "_best_ema": np.float64(0.4)},
        },
    }[kind]


@pytest.mark.parametrize(
    ("kind", "key", "wanted"),
    [
        ("timm", None, "raw"),
        ("timm", "state_dict_ema", "mean"),
        ("lightning", None, "raw"),
        ("lightning", "ema", "mean"),
        ("averaged", None, "mean"),
        ("averaged", "current_model_state", "raw"),
        ("nnunet", None, "raw"),
    ],
)
def test_checkpoints_of_trainers_with_objects_of_theirs(
    kind: str, key: str | None, wanted: str, tmp_path: Path
) -> None:
    networks, target = {"raw": network(0), "mean": network(1)}, network(2)
    torch.save(trained(kind, networks["raw"], networks["mean"], tmp_path / "trap"), tmp_path / "a.ckpt")
    load_checkpoint(target, tmp_path / "a.ckpt", key=key)
    assert same(target, networks[wanted])
    assert not (tmp_path / "trap").exists(), "nothing that a file names is called"


def test_a_whole_network_that_was_pickled_is_refused(tmp_path: Path) -> None:
    torch.save(network(0), tmp_path / "a.pt")
    with pytest.raises(ModelError, match="state_dict"):
        load_checkpoint(network(1), tmp_path / "a.pt")
