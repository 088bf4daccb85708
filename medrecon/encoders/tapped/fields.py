"""Receptive fields, measured: which positions of a layer notice that a slab of the image became NaN."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medrecon.encoders.tapped.dryrun import seeded
from medrecon.encoders.tapped.layout import Shape
from medrecon.encoders.tapped.probe import Survey, Tap
from medrecon.encoders.tapped.watch import watch
from medrecon.errors import ModelError

BUDGET = 3e11
"""Floating point operations that measuring may take, unless one pass along each axis takes more: seconds."""

_Reach = tuple[int, int]


def measure_fields(network: nn.Module, survey: Survey, names: Collection[str]) -> dict[str, Shape | None]:
    """The receptive field of layers of a network, along each axis.

    One axis after the other, the network runs on a long thin image in which a slab is NaN. NaN spreads to all
    that depends on it, whatever the weights: the first and the last position of a layer that change tell how
    far beyond its own block of voxels a position sees. The slab is moved by single voxels until each phase of
    the strides was seen, or `BUDGET` is used up; what stayed open is added, so that the field is never too
    small (too large by less than a period of the strides to either side, most often by nothing).

    The field is that of a window which is centred on the position's own block and holds all that it sees: for
    a network that looks further to one side (a stride of 2 with an odd kernel) it is a little larger than the
    number of voxels seen. It is None where a layer notices the slab wherever it is (norms over space,
    attention), where its reach changes from place to place (windowed attention), or could not be found in an
    image of 32 times the deepest stride.

    Args:
        network: the network, in evaluation mode.
        survey: what is known of it.
        names: layers, out of `survey.taps`.

    Returns:
        name -> voxels along each axis, or None.
    """
    taps = {name: survey.taps[name] for name in survey.taps if name in set(names)}
    spatial = {name: tap for name, tap in taps.items() if tap.layout.kind != "vector"}
    along = [_Axis(network, survey, axis).fields(spatial) for axis in range(survey.spatial_dims)]
    fields: dict[str, Shape | None] = {}
    for name in taps:
        found = [each.get(name) for each in along]
        fields[name] = None if None in found else tuple(n for n in found if n is not None)
    return fields


class _Axis:
    """The measurement along one axis."""

    def __init__(self, network: nn.Module, survey: Survey, axis: int) -> None:
        self.network = network
        self.survey = survey
        self.axis = axis
        self.budget = BUDGET / survey.spatial_dims

    def fields(self, taps: Mapping[str, Tap]) -> dict[str, int]:
        """The layers whose field is known, and how large it is."""
        step = self.survey.multiple[self.axis]
        if self.survey.window is not None:
            length = self.survey.window[self.axis]
            strides = {tap.layout.stride[self.axis] for tap in taps.values()}
            step = math.lcm(1, *(stride for stride in strides if 4 * stride <= length))
            taps = {name: tap for name, tap in taps.items() if step % tap.period[self.axis] == 0}
            return self._at(length, step, taps)[0]
        length = step * math.ceil(max(8 * step, 64) / step)
        found, far = self._at(length, step, taps)
        if far and self._work(4 * length, far) <= self.budget:
            found |= self._at(4 * length, step, far)[0]
        return found

    def _at(self, length: int, step: int, taps: Mapping[str, Tap]) -> tuple[dict[str, int], dict[str, Tap]]:
        """Fields that an image of this length can tell, and the layers that see further than it reaches."""
        if not taps:
            return {}, {}
        size = list(self.survey.least if self.survey.window is None else self.survey.window)
        size[self.axis] = length
        generator = torch.Generator().manual_seed(0)
        like = next(self.network.parameters(), torch.empty(0))
        image = torch.rand((1, self.survey.in_channels, *size), generator=generator).to(like)
        before = self._sums(image, taps)
        start = (length - step) // 2 // step * step

        def reaches(offset: int, left: Mapping[str, Tap]) -> dict[str, _Reach]:
            changed = image.clone()
            changed.narrow(2 + self.axis, start + offset, step).fill_(torch.nan)
            after = self._sums(changed, left)
            return {
                name: reach
                for name, tap in left.items()
                if name in after
                and (reach := self._reach(before[name], after[name], tap, start + offset, step)) is not None
            }

        first = reaches(0, taps)
        if not first:
            return {}, dict(taps)
        moved = reaches(step, taps) if start + 2 * step <= length else first
        varied = {name for name in first if moved.get(name, first[name]) != first[name]}
        near = {
            name: tap for name, tap in taps.items() if name in first and name in moved and name not in varied
        }
        work = self._work(length, near) if near else 0.0
        periods = {tap.period[self.axis] for tap in near.values()}
        offsets = choose_offsets(periods, int(self.budget / max(1.0, work)) - 3)
        runs = [first, moved, *(reaches(offset, near) for offset in offsets[1:])]
        far = {n: tap for n, tap in taps.items() if n not in varied and not all(n in run for run in runs)}
        near = {name: tap for name, tap in near.items() if name not in far}
        found = {}
        for name, tap in near.items():
            slack = gap(offsets, tap.period[self.axis]) - 1
            sides = max(0, max(max(run[name]) for run in runs) + slack)
            found[name] = tap.layout.stride[self.axis] + 2 * sides
        return found, far

    def _reach(
        self, before: torch.Tensor, after: torch.Tensor, tap: Tap, start: int, width: int
    ) -> _Reach | None:
        """Voxels seen beyond a position's own block, below and above; None where the image was too short."""
        changed = (~(before == after)).nonzero().flatten()
        if len(changed) == 0 or changed[0] == 0 or changed[-1] == len(before) - 1:
            return None
        stride = tap.layout.stride[self.axis]
        low, high = int(changed[0]), int(changed[-1])
        return stride * high - (start + width - 1), start + 1 - stride * (low + 1)

    def _sums(self, image: torch.Tensor, taps: Mapping[str, Tap]) -> dict[str, torch.Tensor]:
        """The sum over all but this axis, for each layer reached: small, and it notices any change."""
        sums: dict[str, torch.Tensor] = {}

        def see(key: str, module: str, tensor: torch.Tensor) -> bool:
            if key in taps and key not in sums:
                grid = taps[key].layout.arrange(tensor, image.shape[2:])
                others = [axis for axis in range(grid.ndim) if axis != 2 + self.axis]
                sums[key] = grid.sum(others, dtype=torch.float64)
            return len(sums) == len(taps)

        modules = {tap.module for tap in taps.values()}
        with torch.no_grad(), seeded(image.device, self.survey.random):
            try:
                watch(
                    self.network,
                    lambda: self.survey.inputs.run_or_refuse(self.network, image),
                    see,
                    modules,
                    self.survey.operations,
                )
            except ModelError:
                if not image.isnan().any():
                    raise  # else it looks for NaN itself and stops there: what lies behind stays unknown
        return sums

    def _work(self, length: int, taps: Mapping[str, Tap]) -> float:
        """Floating point operations of a pass up to the deepest of these layers."""
        size = list(self.survey.least if self.survey.window is None else self.survey.window)
        size[self.axis] = length
        if self.survey.mode == "real":
            return self.budget / 8
        with FlopCounterMode(display=False) as counter:
            self.survey.runner(self.network).shapes(size, 1, until=taps)
        return float(counter.get_total_flops())


def choose_offsets(periods: Collection[int], most: int) -> list[int]:
    """Shifts of the slab, 0 first, that see the most phases of all these periods in at most `most` passes."""
    chosen = [0]
    longest = max(periods, default=1)
    while len(chosen) < min(most, longest) and any(gap(chosen, period) > 1 for period in periods):
        others = [offset for offset in range(min(longest, 64)) if offset not in chosen]
        if not others:
            break
        chosen.append(min(others, key=lambda o: (sum(gap([*chosen, o], p) / p for p in periods), o)))
    return chosen


def gap(offsets: Collection[int], period: int) -> int:
    """The largest step between neighbouring phases seen, around the period: 1 where all were."""
    phases = sorted({offset % period for offset in offsets})
    return max(b - a for a, b in zip(phases, [*phases[1:], phases[0] + period], strict=True))
