"""Multipliers and masks: what is kept is worth most, within the budget."""

from __future__ import annotations

import itertools

import pytest
import torch

from medrecon.blocks.allocation import choose, fit_masks, fit_orders, multiplier_for, prefixes, spread


def every_mask(count: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([False, True], repeat=count)))


def test_with_every_mask_at_hand_what_is_kept_is_what_is_worth_its_multiplier() -> None:
    torch.manual_seed(0)
    energy = torch.rand(50, 6)
    masks = every_mask(6)
    for multiplier in (0.0, 0.3, 0.9, 2.0):
        chosen = masks[choose(energy, masks, torch.tensor(multiplier))]
        assert torch.equal(chosen, energy > multiplier)


@pytest.mark.parametrize("budget", [0.0, 0.5, 2.0, 5.0, 16.0])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_a_multiplier_meets_its_budget_and_the_next_lower_would_not(budget: float, scale: float) -> None:
    torch.manual_seed(1)
    energy = torch.rand(400, 16).pow(4) * torch.rand(400, 1).pow(6) * scale
    masks = prefixes(torch.arange(16), 17)
    multiplier = multiplier_for(energy, masks, budget)

    def spent(multiplier: torch.Tensor) -> float:
        return float(masks.sum(1)[choose(energy, masks, multiplier)].float().mean())

    assert spent(multiplier) <= budget
    if spent(multiplier) < 16:
        assert spent(multiplier * 0.99) > spent(multiplier) - 1e-9
        assert spent(multiplier) > budget - 0.2, "a budget is there to be spent"


def test_a_budget_too_small_keeps_nothing_and_a_flat_image_asks_for_nothing() -> None:
    masks = prefixes(torch.arange(7), 8)
    some = torch.rand(30, 7)
    assert not choose(some, masks, multiplier_for(some, masks, -1.0)).any()
    flat = torch.zeros(30, 7)
    multiplier = multiplier_for(flat, masks, 3.0)
    assert torch.isfinite(multiplier)
    assert not choose(flat, masks, multiplier).any()


def test_busy_blocks_get_what_quiet_ones_do_not_need() -> None:
    torch.manual_seed(2)
    busy, quiet = torch.rand(10, 16) * 9, torch.rand(90, 16) * 1e-3
    energy, masks = torch.cat([quiet, busy]), prefixes(torch.arange(16), 17)
    kept = masks[choose(energy, masks, multiplier_for(energy, masks, 1.6))].sum(1)
    assert kept[:90].float().mean() < 1 < 10 < kept[90:].float().mean()


def test_prefixes_grow_from_nothing_to_everything_along_the_order() -> None:
    order = torch.tensor([3, 0, 2, 1])
    masks = prefixes(order, 5)
    assert masks.sum(1).tolist() == sorted(masks.sum(1).tolist())
    assert not masks[0].any()
    assert masks[-1].all()
    for mask in masks:
        assert mask[order[: int(mask.sum())]].all()


def test_fitting_finds_groups_that_no_single_order_serves() -> None:
    """Two kinds of blocks, loud in opposite halves: fitted orders and masks keep each kind's own half."""
    torch.manual_seed(3)
    loud, faint = torch.rand(600, 8) * 5 + 5, torch.rand(600, 8) * 0.1
    kinds = torch.rand(600) < 0.5
    energy = torch.where(kinds[:, None], torch.cat([loud, faint], 1), torch.cat([faint, loud], 1))
    multiplier = torch.tensor(1.0)

    def gain(masks: torch.Tensor) -> float:
        kept = energy @ masks.float().T - multiplier * masks.sum(1)
        return float(kept.amax(1).sum())

    start = prefixes(torch.arange(16), 10)
    orders = fit_orders(energy, 4, torch.Generator().manual_seed(0))
    ordered = torch.cat([prefixes(order, 6) for order in orders])
    best = float((energy - multiplier).clamp_min(0).sum())
    assert gain(start) < 0.94 * best
    assert gain(ordered) > 0.97 * best
    fitted = fit_masks(energy, torch.cat([start[:1], ordered, start[-1:]]))
    assert gain(fitted) >= gain(ordered)
    assert not fitted[0].any()
    assert fitted[-1].all()


def test_no_round_of_fitting_makes_masks_worse() -> None:
    torch.manual_seed(4)
    energy = torch.rand(500, 12).pow(3) * 8
    masks = torch.rand(20, 12) < 0.5
    masks[0], masks[-1] = False, True
    gains = []
    for _ in range(6):
        gains.append(float((energy @ masks.float().T - masks.sum(1)).amax(1).sum()))
        masks = fit_masks(energy, masks, rounds=1)
    assert all(b >= a - 1e-3 for a, b in itertools.pairwise(gains))
    assert gains[-1] > gains[0]


def test_rows_are_spread_evenly() -> None:
    rows = torch.arange(1000)[:, None]
    assert torch.equal(spread(rows, 1000), rows)
    some = spread(rows, 10)[:, 0]
    assert len(some) == 10
    assert (some[0], some[-1]) == (0, 999)
    assert some.diff().min() >= 110


@pytest.mark.parametrize("misled", [False, True])
def test_a_multiplier_for_many_blocks_is_that_of_all_of_them(misled: bool) -> None:
    chance = torch.Generator().manual_seed(4)
    energy = torch.randn(9000, 24, generator=chance).pow(6)
    masks = prefixes(torch.arange(24), 12)
    if misled:  # a sample of evenly spaced blocks would see nothing
        energy[torch.linspace(0, 8999, 2048, dtype=torch.float64).round().long()] = 0
    sizes = masks.sum(dim=1)
    for budget in (0.5, 4.0, 15.0):
        multiplier = multiplier_for(energy, masks, budget)
        assert sizes[choose(energy, masks, multiplier)].float().mean() <= budget
        lower = sizes[choose(energy, masks, multiplier / 1.003)].float().mean()
        assert lower > budget - 0.01
        if misled:
            assert lower > budget
    everything = sizes[choose(energy, masks, multiplier_for(energy, masks, 24.0))].float().mean()
    assert everything > (18.5 if misled else 23.9)
    assert not sizes[choose(energy, masks, multiplier_for(energy, masks, -1.0))].any()
