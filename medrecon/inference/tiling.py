"""Whole volumes through a network, in tiles that leave no seams and in bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import torch
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, sliding_window_inference
from torch import nn

from medrecon.blocks.tiles import Span as Span
from medrecon.blocks.tiles import cut as cut
from medrecon.blocks.tiles import largest_tile
from medrecon.blocks.tiles import plan_tiles as plan_tiles
from medrecon.errors import ModelError
from medrecon.inference.pieces import statistics_of
from medrecon.io.notices import notice
from medrecon.reconstructor import INPUT

BYTES_PER_VOXEL = 64
"""Peak working memory for each voxel of a tile, unless the inversion says its own (`bytes_per_voxel`)."""

MOST_VOXELS = 272 << 20
"""A tile is never larger. 512x512x1000 voxels are one tile with it, and 512x512x2000 two that overlap."""


_LARGE, _PARTS = 1 << 22, 100
"""Tiles of more voxels than this are long work: their progress is told in so many parts."""


class TilingWarning(UserWarning):
    """Something about the way a volume was cut that must be said and does not change the result."""


def bytes_per_voxel(network: Any) -> int:
    """Peak working memory of a 3D network for each voxel of a tile."""
    return int(getattr(getattr(network, "inversion", None), "bytes_per_voxel", BYTES_PER_VOXEL))


def free_voxels(device: torch.device, each: int = BYTES_PER_VOXEL) -> int:
    """Voxels of a tile that half of the free memory of a device can hold."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return max(1, free // 2 // each)


def affordable_voxels(device: torch.device, each: int = BYTES_PER_VOXEL) -> int:
    """The same, or `MOST_VOXELS` where that is less: the largest tile by default."""
    return min(MOST_VOXELS, free_voxels(device, each))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a tensor did not fit, on the GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _give_back(device: torch.device) -> None:
    """Let go of what torch keeps of a GPU's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


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
        asked = any(name != INPUT for name in self.results)
        with statistics_of(network, image, device) if asked else contextlib.nullcontext():
            self._fill(output, image, network, device)
        return MetaTensor(output).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else output

    @abstractmethod
    def _fill(
        self, output: torch.Tensor, image: torch.Tensor, network: nn.Module, device: torch.device
    ) -> None:
        """Write each result of `image` (B, 1, *spatial) into its channel of `output` (B, R, *spatial)."""

    def _each(self, image: torch.Tensor, network: Any, device: torch.device) -> Iterator[torch.Tensor]:
        """Result after result of one tile, without the control, which is copied and never rounded."""
        names = [name for name in self.results if name != INPUT]
        results: Iterator[torch.Tensor] = network.reconstruct(image.to(device, torch.float32), names)
        return results

    def _windows(self, image: torch.Tensor, network: Any, device: torch.device) -> torch.Tensor:
        """Results (B, R, *spatial) of an encoder that must be given windows of one size: MONAI's, blended."""
        window, overlap = tuple(network.window), 0.5
        size = [max(n, w) for n, w in zip(image.shape[2:], window, strict=True)]
        step = tuple(max(1, int(w * (1 - overlap))) for w in window)
        total = image.shape[0] * len(dense_patch_slices(size, window, step))
        done = itertools.count(1)

        def predict(piece: torch.Tensor) -> torch.Tensor:
            made = torch.cat(list(self._each(piece, network, device)), dim=1)
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
        controls = [r for r, name in enumerate(self.results) if name == INPUT]
        output[:, controls] = image.to(output.device)
        if len(controls) == len(self.results):
            return
        most = self.most_voxels or affordable_voxels(device, bytes_per_voxel(network))
        while not self._tiles(output, image, network, device, most):
            _give_back(device)
            most = math.prod(largest_tile(self.plan(shape, network, most))) // 2
            notice(f"out of memory: tiles of at most {most} voxels from here on", TilingWarning)

    def plan(self, shape: Sequence[int], network: Any, most: int) -> list[tuple[Span, ...]]:
        """The tiles of a volume; one, the whole, where a result may depend on all of it."""
        if network.halo is None:
            return [tuple(Span(0, n, 0, n) for n in shape)]
        return plan_tiles(shape, network.stride, network.halo, most)

    def _tiles(
        self, output: torch.Tensor, image: torch.Tensor, network: Any, device: torch.device, most: int
    ) -> bool:
        """Do all tiles; False where memory ran out and smaller ones are worth a try."""
        shape = tuple(image.shape[2:])
        tiles = self.plan(shape, network, most)
        parts = _PARTS if math.prod(largest_tile(tiles)) > _LARGE else 1
        total = parts * len(tiles)
        try:
            for done, tile in enumerate(tiles):
                self._step(done * parts, total)
                with _followed(network, self._within(done * parts, parts, total)):
                    self._one(output, image, network, device, tile)
        except Exception as error:
            size = math.prod(largest_tile(tiles))
            smaller = math.prod(largest_tile(self.plan(shape, network, size // 2)))
            if not is_out_of_memory(error) or smaller >= size:
                raise
            return False
        self._step(total, total)
        return True

    def _within(self, before: int, parts: int, total: int) -> Callable[[int, int], None]:
        """Progress within a tile, from that of each of its results."""
        others = sum(name != INPUT for name in self.results)
        ended = 0

        def tell(done: int, of: int) -> None:
            nonlocal ended
            if parts > 1:
                self._step(before + int(parts * (ended + done / of) / others), total)
            ended += done == of

        return tell

    def _one(
        self,
        output: torch.Tensor,
        image: torch.Tensor,
        network: Any,
        device: torch.device,
        tile: tuple[Span, ...],
    ) -> None:
        seen: tuple[Any, ...] = (..., *(slice(s.low, s.high) for s in tile))
        kept: tuple[Any, ...] = (..., *(slice(s.start - s.low, s.stop - s.low) for s in tile))
        target = [slice(s.start, s.stop) for s in tile]
        others = [r for r, name in enumerate(self.results) if name != INPUT]
        for r, result in zip(others, self._each(image[seen], network, device), strict=True):
            place: tuple[Any, ...] = (slice(None), r, *target)
            output[place] = result[kept][:, 0].to(output)


@contextlib.contextmanager
def _followed(network: Any, tell: Callable[[int, int], None]) -> Iterator[None]:
    """Within: an inversion that tells how far it is (`rows_done`) tells it here."""
    inversion: Any = getattr(network, "inversion", None)
    if not hasattr(inversion, "rows_done"):
        yield
        return
    inversion.rows_done = tell
    try:
        yield
    finally:
        inversion.rows_done = None


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
        at_once = min(at_once, image.shape[4])
        while not self._slices(output, image, network, device, at_once):
            _give_back(device)
            at_once //= 2
            notice(f"out of memory: {at_once} slices at once from here on", TilingWarning)

    def _slices(
        self, output: torch.Tensor, image: torch.Tensor, network: Any, device: torch.device, at_once: int
    ) -> bool:
        """Do all slices, so many at once; False where memory ran out and fewer are worth a try."""
        total = math.ceil(image.shape[4] / at_once)
        controls = [r for r, name in enumerate(self.results) if name == INPUT]
        others = [r for r, name in enumerate(self.results) if name != INPUT]
        output[:, controls] = image.to(output.device)
        try:
            for batch in range(image.shape[0]):
                for done, start in enumerate(range(0, image.shape[4], at_once)):
                    self._step(batch * total + done, image.shape[0] * total)
                    piece = slice(start, start + at_once)
                    slices = image[batch, ..., piece].permute(3, 0, 1, 2)
                    for r, result in zip(others, self._each(slices, network, device), strict=True):
                        output[batch, r, ..., piece] = result[:, 0].permute(1, 2, 0).to(output)
        except Exception as error:
            if not is_out_of_memory(error) or at_once == 1:
                raise
            return False
        self._step(image.shape[0] * total, image.shape[0] * total)
        return True
