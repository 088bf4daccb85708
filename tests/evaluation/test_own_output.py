"""A network's output for a reconstruction beside that for the scan."""

from __future__ import annotations

import pytest
import torch

from medrecon.evaluation.own_output import output_kept


def test_dice_by_label_and_the_distance() -> None:
    scan, made = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    scan[0] = made[0] = 0.5
    scan[1, 0], scan[2, 1] = 1, 1
    made[1, 0, :2], made[2, 1] = 1, 1
    kept = output_kept(scan, made)
    assert kept.labels == {"1": pytest.approx(2 * 2 / 6), "2": 1}
    assert kept.dice == pytest.approx((2 / 3 + 1) / 2)
    assert kept.distance == pytest.approx((2 / (16 * 0.25 + 8)) ** 0.5)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 2.0), (0.1, 0.9)])
def test_one_channel_is_foreground(low: float, high: float) -> None:
    scan = torch.full((1, 4, 4), low)
    scan[0, :2] = high
    made = torch.full((1, 4, 4), low)
    made[0, 1:3] = high
    assert output_kept(scan, made).labels == {"1": 0.5}


def test_the_same_is_the_same_and_nothing_found_is_no_dice() -> None:
    scan = torch.randn(4, 5, 5, 5)
    kept = output_kept(scan, scan.clone())
    assert (kept.distance, kept.dice) == (0, 1)
    nothing = torch.full((1, 3, 3), -1.0)
    assert output_kept(nothing, -nothing).dice is None
    assert output_kept(nothing, -nothing).distance == 2
