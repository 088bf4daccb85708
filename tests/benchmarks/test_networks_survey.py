"""The survey of other people's networks: what becomes of one that works, is refused, crashes, is killed."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Benchmark = Callable[[str], ModuleType]
TINY = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
UNET: dict[str, Any] = {"kind": "class", "name": "UNet", "what": "monai.networks.nets.UNet"}


def stages(survey: ModuleType, row: dict[str, Any], place: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    survey.stages(row, place, lambda found: told.append(copy.deepcopy(found)))
    return told


def test_a_network_goes_through_every_stage(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = benchmark("networks_survey")
    monkeypatch.setitem(survey.SIDE, 2, 16)
    told = stages(survey, {**UNET, "arguments": TINY}, tmp_path)
    assert [len([stage for stage in survey.STAGES if stage in found]) for found in told] == [1, 2, 3, 4]
    found = told[-1]
    assert found["listed"]["shape"] == (16, 16)
    assert found["listed"]["layers"] > 5
    assert 0 < found["inverted"]["distance"] < 5
    assert all(0 < value < 100 for value in found["trained"]["psnr"])
    assert found["written"]["size"][0] == 3
    assert found["written"]["bytes"] > 348  # more than the header of a NIfTI file
    row = {**UNET, "arguments": TINY, **found}
    assert survey.table([row], "class").count("CRASH") == 0
    assert "UNet" not in survey.table([row], "bundle")


def test_what_is_refused_and_what_crashes_are_told_apart(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = benchmark("networks_survey")
    refused = stages(survey, {**UNET, "what": "monai.networks.nets.NoSuch"}, tmp_path)
    assert len(refused) == 1
    assert refused[0]["listed"]["exit"] == 4

    def fail(self: Any) -> dict[str, Any]:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(survey._Network, "listed", fail)
    crashed = stages(survey, UNET, tmp_path)
    assert crashed[0]["listed"]["crash"] == "ZeroDivisionError: a fault of ours"


def test_a_process_that_is_killed_says_how_far_it_was(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = benchmark("networks_survey")

    def half(row: Any, send: Any, seconds: int, gib: int) -> None:
        send.send({"listed": {"layers": 3}})
        os._exit(9)

    monkeypatch.setattr(survey, "_child", half)
    found = survey.survey_one(UNET, 10, 12)
    assert found == {"listed": {"layers": 3}, "crash": "ended with 9 before it was inverted"}


def test_rows_differ_and_do_not_depend_on_where_the_bundles_lie(benchmark: Benchmark, tmp_path: Path) -> None:
    networks = benchmark("surveyed_networks")
    for place in ("here", "there"):
        (tmp_path / place / "vista3d").mkdir(parents=True)
    keys = [[networks.key_of(row) for row in networks.rows(tmp_path / place)] for place in ("here", "there")]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == len(keys[0]) >= 42
    assert str(tmp_path) not in "".join(keys[0])
