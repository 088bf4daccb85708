"""A layer's features of a whole volume, piece by piece, for any network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from medrecon.blocks.tiles import Span, plan_tiles
from medrecon.contract import Encoder, LayerInfo, Progress
from medrecon.features.tiles import encoder_halo
from medrecon.inference.memory import MOST_VOXELS, affordable_voxels

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
    with torch.inference_mode(), encoder.conditioned_on(_whole(encoder, image)):
        if encoder.spatial_dims == 2:
            _slices(encoder, image, layers, device, visit, progress)
        elif encoder.window is not None:
            for name, values in _windows(encoder, image[None], layers, device, progress).items():
                visit(name, _everything(values[0]), values[0])
        else:
            _tiles(encoder, image, layers, device, visit, progress)


def _whole(encoder: Encoder, image: torch.Tensor) -> torch.Tensor:
    return image[None] if encoder.spatial_dims == 3 else image.permute(3, 0, 1, 2)


def _everything(values: torch.Tensor) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in values.shape[1:])


def _slices(
    encoder: Encoder,
    image: torch.Tensor,
    layers: Sequence[LayerInfo],
    device: torch.device,
    visit: Visit,
    progress: Progress | None,
) -> None:
    depth, names = image.shape[-1], [info.name for info in layers]
    most = min(_SLICES, affordable_voxels(device) // 4)
    count = 1 if encoder.window is not None else max(1, most // (image.shape[1] * image.shape[2]))
    for start in range(0, depth, count):
        batch = image[..., start : start + count].permute(3, 0, 1, 2).contiguous()
        if encoder.window is not None:
            made = _windows(encoder, batch, layers, device, None)
        else:
            found = encoder(batch.to(device, torch.float32), names)
            made = {name: found[name].float().cpu() for name in names}
        for info in layers:
            across, down, _ = grid_shape(info, image.shape[1:])  # an encoder may give more at the far ends
            piece = made[info.name][..., :across, :down].permute(1, 2, 3, 0)
            x, y, z = _everything(piece)
            visit(info.name, (x, y, slice(start, start + z.stop)), piece)
        if progress is not None:
            progress(min(start + count, depth), depth)


def _tiles(
    encoder: Encoder,
    image: torch.Tensor,
    layers: Sequence[LayerInfo],
    device: torch.device,
    visit: Visit,
    progress: Progress | None,
) -> None:
    shape, names = tuple(image.shape[1:]), [info.name for info in layers]
    fields = {info.name: info for info in encoder.measure()}
    halo = encoder_halo([fields[name] for name in names])
    grid = math.lcm(*encoder.multiple, *(s for info in encoder.layers() for s in info.stride))
    whole = [tuple(Span(0, n, 0, n) for n in shape)]
    most = min(MOST_VOXELS, affordable_voxels(device))
    tiles = whole if halo is None else plan_tiles(shape, grid, halo, most)
    for done, tile in enumerate(tiles):
        seen: tuple[Any, ...] = (slice(None), *(slice(s.low, s.high) for s in tile))
        found = encoder(image[seen][None].to(device, torch.float32), names)
        for info in layers:
            values, inside, where = found[info.name][0].float().cpu(), [slice(None)], []
            for span, step in zip(tile, info.stride, strict=True):
                first, last, before = span.start // step, math.ceil(span.stop / step), span.low // step
                inside.append(slice(first - before, last - before))
                where.append(slice(first, last))
            visit(info.name, tuple(where), values[tuple(inside)])
        if progress is not None:
            progress(done + 1, len(tiles))


def _windows(
    encoder: Encoder,
    batch: torch.Tensor,
    layers: Sequence[LayerInfo],
    device: torch.device,
    progress: Progress | None,
) -> dict[str, torch.Tensor]:
    """Layers of images (B, C, *spatial), from overlapping windows that begin on multiples of the strides."""
    window = tuple(encoder.window or ())
    size = batch.shape[2:]
    steps = [math.lcm(*(info.stride[axis] for info in layers)) for axis in range(len(window))]
    jumps = [
        w if step >= w else max(step, w // 2 // step * step) for w, step in zip(window, steps, strict=True)
    ]
    counts = [math.ceil(max(0, n - w) / j) + 1 for n, w, j in zip(size, window, jumps, strict=True)]
    padded = [(c - 1) * j + w for c, j, w in zip(counts, jumps, window, strict=True)]
    missing = [p for n, t in zip(reversed(size), reversed(padded), strict=True) for p in (0, max(0, t - n))]
    image = functional.pad(batch, missing, mode="replicate") if any(missing) else batch
    sums: dict[str, torch.Tensor] = {}
    weights: dict[str, torch.Tensor] = {}
    places = list(itertools.product(*(range(0, c * j, j) for c, j in zip(counts, jumps, strict=True))))
    for done, place in enumerate(places):
        cut: Any = (..., *(slice(p, p + w) for p, w in zip(place, window, strict=True)))
        found = encoder(image[cut].to(device, torch.float32), [info.name for info in layers])
        for info in layers:
            values = found[info.name].float().cpu()
            if info.name not in sums:
                full = [math.ceil(n / s) for n, s in zip(padded, info.stride, strict=True)]
                sums[info.name] = torch.zeros(*values.shape[:2], *full)
                weights[info.name] = torch.zeros(full)
            there = [p // s for p, s in zip(place, info.stride, strict=True)]
            ends = zip(there, values.shape[2:], strict=True)
            where: Any = (..., *(slice(t, t + n) for t, n in ends))
            hill = _hill(values.shape[2:])
            sums[info.name][where] += values * hill
            weights[info.name][where] += hill
        if progress is not None:
            progress(done + 1, len(places))
    made = {}
    for info in layers:
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
