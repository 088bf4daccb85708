"""Rate allocation: each block keeps one of many sets of coefficients, by one Lagrange multiplier for all.

Transform coding keeps few coefficients of each block. Which ones is chosen here block by block, from a list
of masks, so that the squares kept, less the multiplier times their number, are largest (Everett 1963; Shoham
and Gersho 1988). One multiplier for a whole image spends its values where they save the most; the one that
meets a budget is found by bisection.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

OVERHEAD = 2
"""Values that each block takes in any case: its mean, and the number of its mask."""

MOST_BLOCKS = 1 << 15
"""A multiplier is found on so many blocks at most, spread evenly over the image."""

_WORTH_SORTING = 4096
_STEPS = 30
_LOWEST, _HIGHEST = -36.0, 8.0
"""Logarithms of the multipliers that are tried, relative to the mean energy of a block."""

_BRACKETS = ((-0.1, 0.1), (-1.0, 1.0), (_LOWEST, _HIGHEST))
"""Where a multiplier is looked for, in logarithms: close to a guess, farther from it, and as without any."""

_CLEAR = 1.001
"""Bisection ends where one block is undecided; a little above, rounding decides nothing."""


def choose(energy: torch.Tensor, masks: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
    """The mask of each block that keeps most, less what its values cost.

    Args:
        energy: (blocks, coefficients) squares.
        masks: (masks, coefficients), true where a coefficient is kept.
        multiplier: () or (multipliers,): what a value costs, in the units of `energy`.

    Returns:
        (blocks,), or (multipliers, blocks): numbers of masks.
    """
    multipliers = multiplier.reshape(-1)
    graph = torch.jit.is_tracing() or torch.compiler.is_exporting()
    if graph or masks[0].any():
        chosen = _best(energy, masks, multipliers)
    else:  # where no square exceeds the multiplier the empty mask is best
        busy = (energy.amax(dim=1) > multipliers.amin()).nonzero()[:, 0]
        chosen = torch.zeros(len(multipliers), len(energy), dtype=torch.long, device=energy.device)
        chosen[:, busy] = _best(energy[busy], masks, multipliers)
    return chosen.reshape(*multiplier.shape, -1)


def _best(energy: torch.Tensor, masks: torch.Tensor, multipliers: torch.Tensor) -> torch.Tensor:
    """(multipliers, blocks): numbers of masks."""
    sizes = masks.sum(dim=1)
    if len(multipliers) > 1:
        kept = _kept(energy, masks)
        return torch.stack([(kept - multiplier * sizes).argmax(dim=1) for multiplier in multipliers])
    with torch.autocast(energy.device.type, enabled=False):
        return torch.addmm(-multipliers * sizes, energy, masks.to(energy.dtype).T).argmax(dim=1)[None]


def _kept(energy: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(blocks, masks) squares that each mask keeps; never in half precision, where masks look alike."""
    with torch.autocast(energy.device.type, enabled=False):
        return energy @ masks.to(energy.dtype).T


def multiplier_for(energy: torch.Tensor, masks: torch.Tensor, budget: float) -> torch.Tensor:
    """The lowest multiplier at which the blocks together keep no more than the budget.

    Args:
        energy: (blocks, coefficients) squares.
        masks: (masks, coefficients).
        budget: values for each block, the mean over all of them; its mean and its mask's number not counted.

    Returns:
        () in the units of `energy`; where not even empty masks meet the budget, one that chooses them.
    """
    return multipliers_for(energy, masks, [budget])[0]


def multipliers_for(
    energy: torch.Tensor, masks: torch.Tensor, budgets: Sequence[float]
) -> list[torch.Tensor]:
    """`multiplier_for` for each of several budgets."""
    graph = torch.jit.is_tracing() or torch.compiler.is_exporting()
    if graph or len(energy) < _WORTH_SORTING:
        sizes, kept = masks.sum(dim=1), _kept(energy, masks)
        return [_bisected(kept, sizes, _unit(kept), budget) for budget in budgets]
    few = spread(energy, _WORTH_SORTING // 2)
    guesses = multipliers_for(few, masks, budgets)
    return [_narrowed(energy, masks, guess, budget) for guess, budget in zip(guesses, budgets, strict=True)]


def _unit(kept: torch.Tensor) -> torch.Tensor:
    """The mean energy of a block: what multipliers are looked for around."""
    return kept.amax(dim=1).mean().clamp_min(torch.finfo(kept.dtype).tiny)


def _bisected(kept: torch.Tensor, sizes: torch.Tensor, unit: torch.Tensor, budget: float) -> torch.Tensor:
    low, high = torch.full_like(unit, _LOWEST), torch.full_like(unit, _HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        spent = sizes[(kept - unit * middle.exp() * sizes).argmax(dim=1)].to(kept.dtype).mean()
        dear = spent > budget
        low, high = torch.where(dear, middle, low), torch.where(dear, high, middle)
    return unit * high.exp() * _CLEAR


def _narrowed(energy: torch.Tensor, masks: torch.Tensor, guess: torch.Tensor, budget: float) -> torch.Tensor:
    """The same around a guess, without the blocks that choose alike at either end of what is left."""
    sizes, count, unit = masks.sum(dim=1), len(energy), guess

    def chosen(kept: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return sizes[(kept - unit * at.exp() * sizes).argmax(dim=1)]

    for lowest, highest in _BRACKETS:
        if (lowest, highest) == _BRACKETS[-1]:
            unit = torch.stack([_unit(_kept(part, masks)) for part in energy.split(_WORTH_SORTING)]).mean()
        low, high = torch.full_like(unit, lowest), torch.full_like(unit, highest)
        open_: list[torch.Tensor] = []
        many: list[torch.Tensor] = []
        few: list[torch.Tensor] = []
        settled = most = 0
        for part in energy.split(_WORTH_SORTING):
            kept = _kept(part, masks)
            at_low, at_high = chosen(kept, low), chosen(kept, high)
            differ = at_low != at_high
            settled += int(at_high[~differ].sum())
            most += int(at_low.sum())
            open_.append(kept[differ])
            many.append(at_low[differ])
            few.append(at_high[differ])
        least = settled + sum(int(part.sum()) for part in few)
        if least / count <= budget < most / count:
            break
    kept, more, fewer = torch.cat(open_), torch.cat(many), torch.cat(few)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        now = chosen(kept, middle)
        if (settled + int(now.sum())) / count > budget:
            low, more = middle, now
        else:
            high, fewer = middle, now
        differ = more != fewer
        if int(differ.sum()) < len(kept) // 2:
            settled += int(fewer[~differ].sum())
            kept, more, fewer = kept[differ], more[differ], fewer[differ]
    return unit * high.exp() * _CLEAR


def spread(rows: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many rows of (rows, ...), evenly spaced: the same ones each time."""
    count = rows.shape[0]
    if count <= most:
        return rows
    return rows[torch.linspace(0, count - 1, most, dtype=torch.float64).round().long()]


def prefixes(order: torch.Tensor, count: int) -> torch.Tensor:
    """Masks that keep the first n coefficients of an order, n growing evenly in its logarithm from 0.

    Args:
        order: (coefficients,) their numbers, the most important first.
        count: how many masks to make.

    Returns:
        (count, coefficients) bool.
    """
    most = len(order)
    sizes = torch.logspace(0, 1, count, base=most + 1, dtype=torch.float64).sub(1).round().long()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(most)
    return rank[None] < sizes[:, None]


def fit_orders(
    energy: torch.Tensor, count: int, chance: torch.Generator, rounds: int = 8
) -> list[torch.Tensor]:
    """Orders of importance that suit examples of blocks, each cut where it suits the example.

    Args:
        energy: (examples, coefficients) squares, in units of the multiplier.
        count: how many orders.
        chance: draws where they begin.
        rounds: of choosing the best order for each example, and the best for each group of examples.

    Returns:
        `count` orders, (coefficients,) each: numbers of coefficients, the most important first.
    """
    loud = torch.log1p(energy)
    mean = loud.mean(dim=0)
    begin = torch.randint(len(energy), (count,), generator=chance)
    orders = list((loud[begin] + 0.3 * mean).argsort(dim=1, descending=True, stable=True))
    cost = torch.arange(1, energy.shape[1] + 1)
    for _ in range(rounds):
        gains = torch.stack([(energy[:, order].cumsum(dim=1) - cost).amax(dim=1) for order in orders])
        best = gains.argmax(dim=0)
        for number in range(count):
            mine = loud[best == number]
            if len(mine) < _FEW:
                mine = loud[torch.randint(len(loud), (1,), generator=chance)]
            orders[number] = (mine.mean(dim=0) + 0.02 * mean).argsort(descending=True, stable=True)
    return orders


_FEW = 8
"""Fewer examples than this make no order: it begins anew at another example."""


def fit_masks(energy: torch.Tensor, masks: torch.Tensor, rounds: int = 10) -> torch.Tensor:
    """Masks that suit examples of blocks: k-means, with what a mask loses and costs as the distance.

    Args:
        energy: (examples, coefficients) squares, in units of the multiplier.
        masks: (masks, coefficients) to begin with. The first and the last stay: keep nothing, keep all.
        rounds: of choosing the best mask for each example, and the best coefficients for each mask.

    Returns:
        (masks, coefficients) bool. A mask that nobody chose is left as it was.
    """
    masks = masks.clone()
    multiplier = energy.new_tensor(1.0)
    for _ in range(rounds):
        chosen = choose(energy, masks, multiplier)
        total = torch.zeros(len(masks), energy.shape[1]).index_add_(0, chosen, energy)
        used = torch.bincount(chosen, minlength=len(masks))
        better = total > used[:, None]
        better[0], better[-1] = False, True
        masks = torch.where((used > 0)[:, None], better, masks)
    return masks
