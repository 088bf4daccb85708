"""The own encoder: coefficients of blocks, of each as many as one Lagrange multiplier allots."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.nn import functional

from medrecon.blocks.allocation import (
    MOST_BLOCKS,
    OVERHEAD,
    choose,
    fit_masks,
    fit_orders,
    multiplier_for,
    prefixes,
    spread,
)
from medrecon.blocks.dct import analyse, block_basis, low_frequencies
from medrecon.blocks.padding import pad_to_multiple
from medrecon.blocks.tiles import slabs
from medrecon.contract import Allocation, Encoder, Features, LayerInfo
from medrecon.encoders.naming import resolve_layers

_SIZES = {2: 16, 3: 8}
_JITTER = 1.0
"""In training, budgets vary by a factor of two either way: patches get more or less than their scan."""


class AdaptiveEncoder(Encoder):
    """Levels that spend their values where the image is busy, in 2D or 3D.

    An image is cut into blocks (16 x 16, or 8 x 8 x 8), each expressed in the orthonormal DCT, so that an
    error in a feature is as large in the image. A level keeps of each block its mean and one of the encoder's
    sets of coefficients (`masks`); the rest is zero. Which set, a Lagrange multiplier decides, one for the
    whole image, so that the level keeps `values_per_voxel` on average, the mean and the number of the set
    counted in. A level of one value per voxel keeps everything.

    What is kept of a block depends on that block and the multiplier alone. Where an image is cut into
    pieces, `conditioned_on` sets that of the whole; without it each call finds that of the image it is given.
    With f(x) the features, f(a x + b) = a f(x) but for the means, which move by b: no window matters.

    Args:
        spatial_dims: 2 or 3.
        values_per_voxel: of `level1`, `level2`, ..., falling; from 1 down to what block means alone need.
        orders, steps: `masks` are nothing, everything, and `orders` orders of importance cut at `steps`
            lengths. Untrained, all orders are the lowest frequencies first; `fit` finds better ones.

    Raises:
        ValueError: when the numbers do not describe falling levels.
    """

    def __init__(
        self,
        spatial_dims: int,
        values_per_voxel: Sequence[float] = (1, 1 / 2, 3 / 16, 1 / 16, 1 / 64),
        orders: int = 48,
        steps: int = 16,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3) or orders < 1 or steps < 1:
            raise ValueError("AdaptiveEncoder wants 2 or 3 spatial_dims, an order or more and a step or more")
        self.spatial_dims = spatial_dims
        self.size = _SIZES[spatial_dims]
        self.channels = self.size**spatial_dims
        falling = all(a > b for a, b in itertools.pairwise(values_per_voxel))
        if not values_per_voxel or not falling or values_per_voxel[0] > 1:
            raise ValueError(f"values_per_voxel must fall from 1 or less, got {tuple(values_per_voxel)}")
        if values_per_voxel[-1] * self.channels < OVERHEAD:
            raise ValueError(f"values_per_voxel must be {OVERHEAD / self.channels:g} or more")
        self.rates = {f"level{k}": float(rate) for k, rate in enumerate(values_per_voxel, start=1)}
        self.orders, self.steps = orders, steps
        self.basis: torch.Tensor
        self.masks: torch.Tensor
        self.register_buffer("basis", block_basis(self.size, spatial_dims, self.channels), persistent=False)
        lowest_first = torch.arange(self.channels - 1)
        self.register_buffer("masks", prefixes(lowest_first, orders * steps + 2))
        self._multipliers: _Multipliers | None = None

    def layers(self) -> list[LayerInfo]:
        """The levels, the one that keeps most first; all of one stride: each block stays where it is."""
        side = (self.size,) * self.spatial_dims
        return [LayerInfo(name, self.channels, side, side, rate) for name, rate in self.rates.items()]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of the chosen levels.

        Args:
            image: (B, 1, *spatial) of any size; its far ends are repeated up to whole blocks.
            names: levels to compute; all of them when None.

        Returns:
            For each level (B, channels, *blocks), the DCT coefficients that it keeps, lowest frequency
            first, and zero for those that it does not.

        Raises:
            ModelError: when a name is not one of the levels.
        """
        wanted = resolve_layers(names, list(self.rates))
        if self._multipliers is not None and not torch.is_grad_enabled():
            return self._in_slabs(image, wanted)
        rows = self._rows(image)
        return {name: kept.movedim(-1, 1) for name, kept in self._kept(rows, wanted, image[0, 0].numel())}

    def _in_slabs(self, image: torch.Tensor, names: Sequence[str]) -> Features:
        """The same, some blocks after the other: what is at work stays in the processor's cache."""
        grid = [-(-n // self.size) for n in image.shape[2:]]
        features = {
            name: image.new_empty((image.shape[0], *grid, self.channels), dtype=self.basis.dtype)
            for name in names
        }
        for slab in slabs((image.shape[0], *grid), _AT_ONCE):
            voxels = slice(slab.start * self.size, slab.stop * self.size)
            rows = self._rows(image[:, :, voxels])
            for name, kept in self._kept(rows, names, image[0, 0].numel()):
                features[name][:, slab] = kept
        return {name: feature.movedim(-1, 1) for name, feature in features.items()}

    def _rows(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, *spatial) -> (B, *blocks, channels): all coefficients."""
        return analyse(pad_to_multiple(image, self.size), self.basis, self.size).movedim(1, -1)

    def _kept(
        self, rows: torch.Tensor, names: Sequence[str], voxels: int
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Each level's (B, *blocks, channels): zero where it does not keep a coefficient."""
        partial = [name for name in names if self.rates[name] < 1]
        dropped = self._dropped(rows, partial, voxels) if partial else {}
        for name in names:
            yield name, rows.masked_fill(dropped[name], 0) if name in dropped else rows

    def _dropped(self, rows: torch.Tensor, names: Sequence[str], voxels: int) -> dict[str, torch.Tensor]:
        """(B, *blocks, channels) for each level: which coefficients it does not keep; the means it does."""
        dropped = functional.pad(~self.masks, (1, 0))
        # drawn once for all images: processes that share a batch draw as one that has it whole
        rates = {name: self._rate(name) for name in names}
        chosen: list[torch.Tensor] = []
        floors: list[torch.Tensor] = []
        for blocks in rows.detach().flatten(1, -2):
            multipliers = torch.stack(
                [self._multiplier(blocks, name, rate, voxels) for name, rate in rates.items()]
            )
            pieces = max(1, len(blocks) // _AT_ONCE)
            parts = [choose(_energy(part), self.masks, multipliers) for part in blocks.tensor_split(pieces)]
            chosen.append(torch.cat(parts, dim=1))
            floors.append(multipliers * _FAINT)
        numbers = torch.stack(chosen, dim=1).reshape(len(names), *rows.shape[:-1])
        floor = torch.stack(floors, dim=1).reshape(len(names), -1, *[1] * (rows.ndim - 1))
        faint = [functional.pad(rows[..., 1:].square() < least, (1, 0)) for least in floor]
        return {name: dropped[each] | no for name, each, no in zip(names, numbers, faint, strict=True)}

    def _rate(self, name: str) -> float:
        """Values for each voxel of a level; varied by chance in training."""
        chance = 2 * float(torch.rand(())) - 1 if self.training and self._multipliers is None else 0.0
        return self.rates[name] * 2 ** (chance * _JITTER)

    def _multiplier(self, rows: torch.Tensor, name: str, rate: float, voxels: int) -> torch.Tensor:
        """The multiplier of a level: that of the whole which is held, else that of these blocks."""
        if self._multipliers is not None:
            return self._multipliers[name].to(rows.device)
        budget = rate * voxels / rows.shape[0] - OVERHEAD
        return multiplier_for(_energy(spread(rows, MOST_BLOCKS)), self.masks, budget)

    @property
    def is_conditioned(self) -> bool:
        """Whether multipliers of a whole image are set."""
        return self._multipliers is not None

    def allocations(self) -> dict[str, Allocation]:
        """The sets and multipliers of the levels computed so far within `conditioned_on`."""
        sets = functional.pad(self.masks, (1, 0), value=True)  # the mean is in each
        return {
            name: Allocation(sets, float(multiplier))
            for name, multiplier in (self._multipliers or {}).items()
        }

    @contextlib.contextmanager
    def conditioned_on(self, whole: torch.Tensor) -> Iterator[None]:
        """Within: the levels' multipliers are those of this image, of which pieces are then encoded.

        Args:
            whole: (1, 1, *spatial), or (slices, 1, *spatial) for a volume whose slices share a budget.
        """
        self._multipliers = _Multipliers(self, whole)
        try:
            yield
        finally:
            self._multipliers = None

    def multipliers(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The multiplier of each level but a complete one; argument as `conditioned_on`.

        Found on a part of the blocks where there are very many: whatever the size, in bounded memory.
        """
        multipliers = _Multipliers(self, image)
        return {name: multipliers[name] for name, rate in self.rates.items() if rate < 1}

    def _sample(self, image: torch.Tensor) -> tuple[torch.Tensor, int]:
        """(blocks, channels - 1) squares of blocks spread over an image, and how many blocks it has."""
        shape = image.shape[2:]
        grid = [-(-n // self.size) for n in shape]
        rows = torch.cartesian_prod(*(torch.arange(n) for n in (image.shape[0], *grid)))
        blocks = len(rows)
        rows = spread(rows, MOST_BLOCKS)
        within = torch.arange(self.size)
        index = [rows[:, 0].reshape(-1, *[1] * self.spatial_dims)]
        for axis, n in enumerate(shape):
            places = (rows[:, axis + 1, None] * self.size + within).clamp(max=n - 1)
            around = [1] * self.spatial_dims
            around[axis] = self.size
            index.append(places.reshape(-1, *around))
        picked = image[:, 0][tuple(i.to(image.device) for i in index)].float()
        coefficients = picked.flatten(1) @ self.basis.to(picked.device).T
        return coefficients[:, 1:].square(), blocks

    def fit(self, images: Iterable[torch.Tensor], seed: int = 0) -> None:
        """Find masks that suit images: what is left out at the levels' rates grows as little as can be.

        Args:
            images: (1, 1, *spatial) each, in one common scale or not: only what is busy within each counts.
            seed: of the draws.
        """
        chance = torch.Generator().manual_seed(seed)
        start = prefixes(torch.arange(self.channels - 1), 40)
        rates = [rate for rate in (1 / 4, 1 / 10, 1 / 16, 1 / 32) if rate * self.channels > 2 * OVERHEAD]
        turns, examples = self._turns(), []
        for image in images:
            energy, blocks = self._sample(image)
            for rate in rates:
                multiplier = multiplier_for(energy, start, rate * image.numel() / blocks - OVERHEAD)
                relative = energy / multiplier
                busy = relative[relative.amax(dim=1) > 1]
                some = torch.randperm(len(busy), generator=chance)[:_EXAMPLES]
                parts = busy[some].tensor_split(len(turns))
                examples += [part[:, turn] for part, turn in zip(parts, turns, strict=True)]
        energy = torch.cat(examples)
        energy = energy[torch.randperm(len(energy), generator=chance)[:_MOST_EXAMPLES]]
        orders = fit_orders(energy[:_ORDER_EXAMPLES], self.orders, chance)
        sets = [prefixes(order, self.steps + 2) for order in orders]
        masks = torch.cat([sets[0][:1], *(some[1:-1] for some in sets), sets[0][-1:]])
        self.masks.copy_(fit_masks(energy, masks))

    def _turns(self) -> list[torch.Tensor]:
        """Orders of the coefficients but the mean, as blocks have them with their axes swapped.

        Examples are shared out among them: no axis is special.
        """
        places = low_frequencies(self.size, self.spatial_dims, self.channels).tolist()
        number = {tuple(place): n - 1 for n, place in enumerate(places)}
        return [
            torch.tensor([number[tuple(place[axis] for axis in turn)] for place in places[1:]])
            for turn in itertools.permutations(range(self.spatial_dims))
        ]


class _Multipliers(dict[str, torch.Tensor]):
    """The multipliers of an image, each found when it is first asked for."""

    def __init__(self, encoder: AdaptiveEncoder, image: torch.Tensor) -> None:
        super().__init__()
        self.encoder, self.voxels = encoder, image[:, 0].numel()
        with torch.inference_mode():
            self.energy, self.blocks = encoder._sample(image)

    def __missing__(self, name: str) -> torch.Tensor:
        budget = self.encoder.rates[name] * self.voxels / self.blocks - OVERHEAD
        with torch.inference_mode():
            multiplier = multiplier_for(self.energy, self.encoder.masks.to(self.energy.device), budget)
        self[name] = multiplier.clone()  # out of inference mode, so that training can use it
        return self[name]


def _energy(rows: torch.Tensor) -> torch.Tensor:
    """(blocks, channels) -> (blocks, channels - 1): squares of all but the mean."""
    return rows[:, 1:].square()


_AT_ONCE = 4096
"""Blocks that masks are chosen for at a time: bounds memory, and keeps what is compared in the cache."""

_FAINT = 1e-6
"""Squares below this share of it are dropped: they are rounding, which differs from tile to tile."""

_EXAMPLES = 1200
_MOST_EXAMPLES = 80_000
_ORDER_EXAMPLES = 20_000
