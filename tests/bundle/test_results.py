"""What a user may ask for."""

from __future__ import annotations

import pytest
import torch

from medrecon.bundle.results import parse_results
from medrecon.compute.devices import pick_device
from medrecon.errors import ModelError, UsageError


def test_results_are_parsed() -> None:
    assert parse_results("level3+level4,level2") == ["level3+level4", "level2"]
    assert parse_results(" level3 + level4 , input") == ["level3+level4", "input"]
    assert parse_results(["level1"]) == ["level1"]


@pytest.mark.parametrize("layers", ["", "level1,", "level1++level2", "level1+level1", "input+level1"])
def test_results_without_sense_are_refused(layers: str) -> None:
    with pytest.raises(ModelError):
        parse_results(layers)


def test_a_result_asked_for_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="names level1 more than once"):
        parse_results("level1, level1")


def test_a_comma_within_a_known_name_separates_nothing() -> None:
    known = ["ids[0,1]", "ids[0,1,2]", "last"]
    assert parse_results("last,ids[0,1],ids[0,1,2]", known) == ["last", "ids[0,1]", "ids[0,1,2]"]
    assert parse_results("ids[0,1]", ["last"]) == ["ids[0", "1]"]


def test_a_long_list_is_split_in_one_pass() -> None:
    """120,000 results would take minutes if each looked at all that follow."""
    names = [f"level{k}" for k in range(120_000)]
    assert parse_results(",".join(names), ["a,b"]) == names


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "meta", f"cuda:{torch.cuda.device_count()}"):
        with pytest.raises(UsageError):
            pick_device(name)
