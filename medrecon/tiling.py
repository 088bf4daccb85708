"""Whole volumes through a network, in tiles that leave no seams and in bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psutil
import torch
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, sliding_window_inference
from torch import nn

from medrecon.errors import ModelError
from medrecon.reconstructor import INPUT

BYTES_PER_VOXEL = 64
"""Peak working memory of the own networks for each voxel of a tile, measured and rounded up."""

MOST_VOXELS = 1 << 26
"""A tile is never larger: beyond it nothing gets faster."""


class Span(NamedTuple):
    """One tile along one axis: [start, stop) is kept, [low, high) is what the network sees."""

    start: int
    stop: int
    low: int
    high: int


def cut(size: int, core: int, halo: int) -> list[Span]:
    """Cut an axis into pieces of `core` voxels, each seen with `halo` voxels to either side."""
    starts = range(0, size, core)
    return [
        Span(s, min(s + core, size), max(s - halo, 0), min(min(s + core, size) + halo, size)) for s in starts
    ]


def plan_tiles(shape: Sequence[int], stride: int, halo: int, most_voxels: int) -> list[tuple[Span, ...]]:
    """Cut a volume into tiles whose halos hold all that a kept voxel can depend on.

    Of all regular cuts whose tiles fit, the one with the least arithmetic. Cuts lie on multiples of `stride`,
    so that a tile sees the very blocks that the whole volume has.

    Args:
        shape: spatial size of the volume.
        stride: the network's deepest stride.
        halo: voxels that a result depends on around its block.
        most_voxels: the largest tile, halo included; exceeded only where the smallest tile is larger.

    Returns:
        For each tile a span along each axis.
    """
    halo = math.ceil(halo / stride) * stride
    choices = []
    for size in shape:
        blocks = math.ceil(size / stride)
        cores = sorted({math.ceil(blocks / parts) * stride for parts in range(1, blocks + 1)})
        choices.append([cut(size, core, halo) for core in cores])

    def cost(axes: tuple[list[Span], ...]) -> tuple[bool, int, int]:
        largest = math.prod(max(s.high - s.low for s in spans) for spans in axes)
        work = math.prod(sum(s.high - s.low for s in spans) for spans in axes)
        return (True, largest, work) if largest > most_voxels else (False, work, -largest)

    return list(itertools.product(*min(itertools.product(*choices), key=cost)))


def affordable_voxels(device: torch.device) -> int:
    """Voxels of a tile that half of the free memory of a device can hold."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return max(1, min(MOST_VOXELS, free // 2 // BYTES_PER_VOXEL))


def slices_first(image: torch.Tensor) -> torch.Tensor:
    """(1, C, X, Y, slices) -> (slices, C, X, Y): a volume as a network of slices takes it."""
    return image[0].movedim(-1, 0)


class _ResultsInferer(Inferer):
    """What both inferers share.

    Args:
        results: what to reconstruct, one channel of the output each: "level3", "level2+level4", "input".
        most_voxels: largest tile; by default what half of the free memory holds.
    """

    def __init__(self, results: Sequence[str], most_voxels: int | None = None) -> None:
        self.results = list(results)
        self.most_voxels = most_voxels
        self.progress: Callable[[int, int], None] | None = None

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, 1, *spatial) in [0, 1] -> (B, R, *spatial) on the CPU, channel r holding `results[r]`.

        Raises:
            ModelError: the network cannot take images of this shape.
        """
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        device = next((p.device for p in network.parameters()), image.device)
        output = torch.empty((image.shape[0], len(self.results), *image.shape[2:]), dtype=image.dtype)
        with self._statistics(image, network, device):
            self._fill(output, image, network, device)
        return MetaTensor(output).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else output

    @abstractmethod
    def _fill(
        self, output: torch.Tensor, image: torch.Tensor, network: nn.Module, device: torch.device
    ) -> None:
        """Write each result of `image` (B, 1, *spatial) into its channel of `output` (B, R, *spatial)."""

    def _statistics(
        self, image: torch.Tensor, network: Any, device: torch.device
    ) -> contextlib.AbstractContextManager[object]:
        """Where the encoder normalises by statistics of its image: those of all, not of each piece."""
        encoder: Any = getattr(network, "encoder", None)
        dims = getattr(encoder, "spatial_dims", None)
        if image.shape[0] != 1 or not hasattr(encoder, "normalised_by"):
            return contextlib.nullcontext()
        if getattr(encoder, "shares_budget", False):
            image = slices_first(image) if dims == image.ndim - 3 else image
        elif dims == image.ndim - 2:
            image = image.to(device, torch.float32)
        else:
            return contextlib.nullcontext()
        whole: contextlib.AbstractContextManager[object] = encoder.normalised_by(image)
        return whole

    def _reconstruct(self, image: torch.Tensor, network: Any, device: torch.device) -> list[torch.Tensor]:
        """Every result of one tile but the control, which is copied and never rounded."""
        names = [name for name in self.results if name != INPUT]
        return list(network.reconstruct(image.to(device, torch.float32), names))

    def _windows(self, image: torch.Tensor, network: Any, device: torch.device) -> torch.Tensor:
        """Results (B, R, *spatial) of an encoder that must be given windows of one size: MONAI's, blended."""
        window, overlap = tuple(network.window), 0.5
        size = [max(n, w) for n, w in zip(image.shape[2:], window, strict=True)]
        step = tuple(max(1, int(w * (1 - overlap))) for w in window)
        total = image.shape[0] * len(dense_patch_slices(size, window, step))
        done = itertools.count(1)

        def predict(piece: torch.Tensor) -> torch.Tensor:
            made = torch.cat(self._reconstruct(piece, network, device), dim=1)
            self._step(next(done), total)
            return made

        self._step(0, total)
        blended: Any = sliding_window_inference(
            image,
            window,
            1,
            predict,
            overlap,
            mode="gaussian",
            padding_mode="replicate",
            sw_device=device,
            device=torch.device("cpu"),
        )
        return blended

    def _place(self, output: torch.Tensor, image: torch.Tensor, network: Any, device: torch.device) -> None:
        """Put the control and what the windows gave in their channels."""
        others = [r for r, name in enumerate(self.results) if name != INPUT]
        controls = [r for r, name in enumerate(self.results) if name == INPUT]
        output[:, controls] = image.to(output.device)
        if others:
            output[:, others] = self._windows(image, network, device).to(output)

    def _step(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


class VolumeInferer(_ResultsInferer):
    """Apply a 3D network to whole volumes, tile by tile; tiled equals whole.

    A network whose result depends on the whole window (`network.halo` is None) gets the volume in one piece;
    an encoder that must be given one size (`network.window`) gets overlapping windows, blended by MONAI.
    """

    def _fill(self, output: torch.Tensor, image: torch.Tensor, network: Any, device: torch.device) -> None:
        shape = tuple(image.shape[2:])
        if len(shape) != 3:
            raise ModelError(
                f"a 3D network cannot take an image of {len(shape)} axes", remedy="give a volume"
            )
        if getattr(network, "window", None) is not None:
            self._place(output, image, network, device)
            return
        if network.halo is None:
            tiles: list[tuple[Span, ...]] = [tuple(Span(0, n, 0, n) for n in shape)]
        else:
            most = self.most_voxels or affordable_voxels(device)
            tiles = plan_tiles(shape, network.stride, network.halo, most)
        controls = [r for r, name in enumerate(self.results) if name == INPUT]
        output[:, controls] = image.to(output.device)
        others = [r for r, name in enumerate(self.results) if name != INPUT]
        for done, tile in enumerate(tiles if others else []):
            self._step(done, len(tiles))
            seen: tuple[Any, ...] = (..., *(slice(s.low, s.high) for s in tile))
            kept: tuple[Any, ...] = (..., *(slice(s.start - s.low, s.stop - s.low) for s in tile))
            target = [slice(s.start, s.stop) for s in tile]
            for r, result in zip(others, self._reconstruct(image[seen], network, device), strict=True):
                place: tuple[Any, ...] = (slice(None), r, *target)
                output[place] = result[kept][:, 0].to(output)
        self._step(len(tiles), len(tiles))


class SliceInferer(_ResultsInferer):
    """Apply a 2D network to each slice (along the last axis) of a volume, or to a single image."""

    def _fill(self, output: torch.Tensor, image: torch.Tensor, network: Any, device: torch.device) -> None:
        single = image.ndim == 4
        if single:
            image, output = image[..., None], output[..., None]
        if image.ndim != 5:
            raise ModelError(
                f"a 2D network cannot take an image of {image.ndim - 2} axes", remedy="give a volume"
            )
        if getattr(network, "window", None) is not None:
            for batch, k in itertools.product(range(image.shape[0]), range(image.shape[4])):
                one = slice(batch, batch + 1)
                self._place(output[one, ..., k], image[one, ..., k], network, device)
            return
        plane = math.prod(image.shape[2:4])
        at_once = max(1, (self.most_voxels or affordable_voxels(device) // 4) // plane)
        total = math.ceil(image.shape[4] / at_once)
        for batch in range(image.shape[0]):
            for done, start in enumerate(range(0, image.shape[4], at_once)):
                self._step(batch * total + done, image.shape[0] * total)
                slices = image[batch, :, :, :, start : start + at_once].permute(3, 0, 1, 2)
                results = iter(self._reconstruct(slices, network, device))
                for r, name in enumerate(self.results):
                    result = slices if name == INPUT else next(results)
                    output[batch, r, :, :, start : start + at_once] = result[:, 0].permute(1, 2, 0).to(output)
        self._step(image.shape[0] * total, image.shape[0] * total)
