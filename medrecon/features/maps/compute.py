"""A layer's features of a whole volume, piece by piece, for any network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from medrecon.blocks.tiles import plan_tiles
from medrecon.contract import Encoder, LayerInfo, Progress, untold
from medrecon.inference.memory import MOST_VOXELS, affordable_voxels
from medrecon.reconstructor import encoder_halo

Visit = Callable[[str, tuple[slice, ...], torch.Tensor], None]
"""Called with a layer, where on its grid, and its values there: (channels, x, y, z), float32 on the CPU."""

_SLICES = 1 << 20
_EDGE = 1e-3
"""Weight of a window's outermost positions: none counts for nothing, where it is the only one."""


def grid_shape(info: LayerInfo, shape: Sequence[int]) -> tuple[int, int, int]:
    """Positions of a layer over a volume (X, Y, Z); a network of slices has as many of them as the volume."""
    strides = (*info.stride, 1)[:3]
    x, y, z = (math.ceil(n / s) for n, s in zip(shape, strides, strict=True))
    return x, y, z


def visit_features(
    encoder: Encoder,
    image: torch.Tensor,
    layers: Sequence[LayerInfo],
    device: torch.device,
    visit: Visit,
    progress: Progress | None = None,
) -> None:
    """Compute layers of a volume and hand them on piece by piece; together the pieces are the whole once.

    A network of slices takes it slice by slice along the last axis; one with a window in windows that overlap
    by half, blended; one with a finite receptive field in tiles that leave no seams; any other in one piece.

    Args:
        encoder: on `device`.
        image: (C, X, Y, Z) in [0, 1], on the encoder's grid.
        layers: those to compute.
        device: where.
        visit: takes each piece.
        progress: called with (pieces done, pieces in all).

    Raises:
        ModelError: the network cannot take this image.
    """
    whole = image[None] if encoder.spatial_dims == 3 else image.permute(3, 0, 1, 2)
    with torch.inference_mode(), encoder.conditioned_on(whole):
        run = _Run(encoder, layers, device, visit, progress or untold)
        if encoder.spatial_dims == 2:
            run.slices(image)
        elif encoder.window is not None:
            for name, values in run.windows(image[None], run.progress).items():
                visit(name, _everything(values[0]), values[0])
        else:
            run.tiles(image)


def _everything(values: torch.Tensor) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in values.shape[1:])


@dataclass(frozen=True)
class _Run:
    """One call of `visit_features`."""

    encoder: Encoder
    layers: Sequence[LayerInfo]
    device: torch.device
    visit: Visit
    progress: Progress

    def found(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Layers of images (B, C, *spatial), where the network runs: they are brought home one by one."""
        names = [info.name for info in self.layers]
        found: dict[str, torch.Tensor] = self.encoder(images.to(self.device, torch.float32), names)
        return found

    def slices(self, image: torch.Tensor) -> None:
        depth, flat = image.shape[-1], self.encoder.window is None
        most = min(_SLICES, affordable_voxels(self.device) // 4)
        count = max(1, most // (image.shape[1] * image.shape[2])) if flat else 1
        for start in range(0, depth, count):
            batch = image[..., start : start + count].permute(3, 0, 1, 2).contiguous()
            made = self.found(batch) if flat else self.windows(batch)
            for info in self.layers:
                # an encoder may give more at the far ends
                across, down, _ = grid_shape(info, image.shape[1:])
                piece = made[info.name].float().cpu()[..., :across, :down].permute(1, 2, 3, 0)
                x, y, z = _everything(piece)
                self.visit(info.name, (x, y, slice(start, start + z.stop)), piece)
            self.progress(min(start + count, depth), depth)

    def tiles(self, image: torch.Tensor) -> None:
        fields = {info.name: info for info in self.encoder.measure()}
        halo = encoder_halo([fields[info.name] for info in self.layers])
        grid = math.lcm(*self.encoder.multiple, *(s for info in self.encoder.layers() for s in info.stride))
        most = min(MOST_VOXELS, affordable_voxels(self.device))
        tiles = plan_tiles(image.shape[1:], grid, halo, most)
        for done, tile in enumerate(tiles, start=1):
            seen: tuple[Any, ...] = (slice(None), *(slice(s.low, s.high) for s in tile))
            found = self.found(image[seen][None])
            for info in self.layers:
                inside, where = [slice(None)], []
                for span, step in zip(tile, info.stride, strict=True):
                    first, last, before = span.start // step, math.ceil(span.stop / step), span.low // step
                    inside.append(slice(first - before, last - before))
                    where.append(slice(first, last))
                self.visit(info.name, tuple(where), found[info.name][0].float().cpu()[tuple(inside)])
            self.progress(done, len(tiles))

    def windows(self, batch: torch.Tensor, progress: Progress = untold) -> dict[str, torch.Tensor]:
        """Layers of (B, C, *spatial), from overlapping windows that begin on multiples of the strides."""
        window = tuple(self.encoder.window or ())
        size = batch.shape[2:]
        steps = [math.lcm(*(info.stride[axis] for info in self.layers)) for axis in range(len(window))]
        jumps = [
            w if step >= w else max(step, w // 2 // step * step)
            for w, step in zip(window, steps, strict=True)
        ]
        counts = [math.ceil(max(0, n - w) / j) + 1 for n, w, j in zip(size, window, jumps, strict=True)]
        padded = [(c - 1) * j + w for c, j, w in zip(counts, jumps, window, strict=True)]
        ends = zip(reversed(size), reversed(padded), strict=True)
        missing = [p for n, t in ends for p in (0, max(0, t - n))]
        image = functional.pad(batch, missing, mode="replicate") if any(missing) else batch
        sums: dict[str, torch.Tensor] = {}
        weights: dict[str, torch.Tensor] = {}
        places = list(itertools.product(*(range(0, c * j, j) for c, j in zip(counts, jumps, strict=True))))
        for done, place in enumerate(places, start=1):
            cut: Any = (..., *(slice(p, p + w) for p, w in zip(place, window, strict=True)))
            found = self.found(image[cut])
            for info in self.layers:
                values = found[info.name].float().cpu()
                if info.name not in sums:
                    full = [math.ceil(n / s) for n, s in zip(padded, info.stride, strict=True)]
                    sums[info.name] = torch.zeros(*values.shape[:2], *full)
                    weights[info.name] = torch.zeros(full)
                there = [p // s for p, s in zip(place, info.stride, strict=True)]
                where: Any = (..., *(slice(t, t + n) for t, n in zip(there, values.shape[2:], strict=True)))
                hill = _hill(values.shape[2:])
                sums[info.name][where] += values * hill
                weights[info.name][where] += hill
            progress(done, len(places))
        made = {}
        for info in self.layers:
            positions = (math.ceil(n / s) for n, s in zip(size, info.stride, strict=True))
            kept: Any = (..., *(slice(0, n) for n in positions))
            made[info.name] = (sums[info.name] / weights[info.name])[kept]
        return made


def _hill(shape: Sequence[int]) -> torch.Tensor:
    """Weights of a window's positions, highest in the middle."""
    hill = torch.ones(tuple(shape))
    for axis, n in enumerate(shape):
        side = torch.sin(math.pi * (torch.arange(n) + 0.5) / n).clamp(min=_EDGE)
        hill = hill * side.view(*(-1 if k == axis else 1 for k in range(len(shape))))
    return hill
