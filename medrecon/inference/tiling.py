"""Whole volumes through a network, in tiles that leave no seams and in bounded memory."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, sliding_window_inference

from medrecon.blocks.tiles import Tile, largest_tile, plan_tiles
from medrecon.contract import Progress, untold
from medrecon.errors import ModelError
from medrecon.inference.memory import affordable_voxels, give_back, is_out_of_memory
from medrecon.io.notices import notice
from medrecon.reconstructor import INPUT, Reconstructor

_LARGE, _PARTS = 1 << 22, 100
"""Tiles of more voxels than this are long work: their progress is told in so many parts."""

_OVERLAP = 0.5
"""Of windows of one size, as a share of their side."""

Self = TypeVar("Self", bound="ResultsInferer")


class TilingWarning(UserWarning):
    """Something about the way a volume was cut that must be said and does not change the result."""


class ResultsInferer(Inferer):
    """Base of the inferers, which give an image for each result: one channel, or as many as the inversion.

    Args:
        results: what to reconstruct, each an image of the output: "level3", "level2+level4", "input".
        most_voxels: largest tile; by default what half of the free memory holds.
    """

    def __init__(self, results: Sequence[str], most_voxels: int | None = None) -> None:
        self.results = list(results)
        self.most_voxels = most_voxels

    def for_results(self: Self, results: Sequence[str], most_voxels: int | None = None) -> Self:
        """The same inferer for other results, in tiles of at most so many voxels."""
        other = copy.copy(self)
        other.results, other.most_voxels = list(results), most_voxels
        return other

    def __call__(  # type: ignore[override]  # MONAI's is for any network
        self,
        inputs: torch.Tensor,
        network: Reconstructor,
        *args: Any,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(B, C, *spatial) in [0, 1] -> (B, R * N, *spatial) on the CPU, N channels for each of `results`.

        N is 1, or as many images as the inversion gives back (`Decoder.channels`).

        Args:
            inputs: the images.
            network: a `Reconstructor`, on the device where it is to run.
            args: nothing; MONAI's inferers have them.
            progress: called with (tiles done, tiles in all).
            kwargs: as `args`.

        Raises:
            ModelError: the network cannot take images of this shape.
        """
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        device = next((p.device for p in network.parameters()), image.device)
        each = network.inversion.channels
        sides = (image.shape[0], len(self.results) * each, *image.shape[2:])
        output = torch.empty(sides, dtype=image.dtype)
        work = _Work(image, output, network, device, tuple(self.results), progress or untold)
        with network.conditioned_on(image) if work.made else contextlib.nullcontext():
            self._fill(work)
        return MetaTensor(output).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else output

    @abstractmethod
    def _fill(self, work: _Work) -> None:
        """Write each result into its channels."""


@dataclass(frozen=True)
class _Work:
    """One call of an inferer.

    Attributes:
        image: (B, C, *spatial).
        output: (B, R * N, *spatial), on the CPU.
        network: what is applied.
        device: where it runs.
        results: what the output is to hold, N channels each.
        progress: told (tiles done, tiles in all).
    """

    image: torch.Tensor
    output: torch.Tensor
    network: Reconstructor
    device: torch.device
    results: tuple[str, ...]
    progress: Progress

    def channels(self, result: int) -> slice:
        """Where a result stands in the output."""
        each = self.network.inversion.channels
        return slice(result * each, (result + 1) * each)

    @property
    def made(self) -> list[int]:
        """The results that are more than the control, which is copied and never rounded."""
        return [r for r, name in enumerate(self.results) if name != INPUT]

    def copy_control(self) -> None:
        """Put the image itself where it was asked for."""
        for r in set(range(len(self.results))).difference(self.made):
            control = self.image[:, : self.network.inversion.channels]
            self.output[:, self.channels(r)] = control.to(self.output.device)

    def each(self, piece: torch.Tensor, within: Progress | None = None) -> Iterator[torch.Tensor]:
        """Result after result of a part of the image, without the control."""
        names = [self.results[r] for r in self.made]
        return self.network.reconstruct(piece.to(self.device, torch.float32), names, within)

    def windows(self, window: tuple[int, ...]) -> None:
        """Fill the channels where the encoder must be given windows of one size: MONAI's, blended."""
        size = [max(n, w) for n, w in zip(self.image.shape[2:], window, strict=True)]
        step = tuple(max(1, int(w * (1 - _OVERLAP))) for w in window)
        total = self.image.shape[0] * len(dense_patch_slices(size, window, step))
        done = itertools.count(1)

        def predict(piece: torch.Tensor) -> torch.Tensor:
            made = torch.cat(list(self.each(piece)), dim=1)
            self.progress(next(done), total)
            return made

        self.progress(0, total)
        blended: Any = sliding_window_inference(
            self.image,
            window,
            1,
            predict,
            _OVERLAP,
            mode="gaussian",
            padding_mode="replicate",
            sw_device=self.device,
            device=torch.device("cpu"),
        )
        for r, part in zip(self.made, blended.split(self.network.inversion.channels, dim=1), strict=True):
            self.output[:, self.channels(r)] = part.to(self.output)


class VolumeInferer(ResultsInferer):
    """Apply a 3D network to whole volumes, tile by tile; tiled equals whole.

    A network whose result depends on the whole window (`network.halo` is None) gets the volume in one piece;
    an encoder that must be given one size (`network.window`) gets overlapping windows, blended by MONAI.
    """

    def _fill(self, work: _Work) -> None:
        shape = tuple(work.image.shape[2:])
        if len(shape) != 3:
            raise ModelError(
                f"a 3D network cannot take an image of {len(shape)} axes", remedy="give a volume"
            )
        work.copy_control()
        if not work.made:
            return
        if work.network.window is not None:
            work.windows(work.network.window)
            return
        most = self.most_voxels or affordable_voxels(work.device, work.network.inversion.bytes_per_voxel)
        while not self._tiles(work, most):
            give_back(work.device)
            most = math.prod(largest_tile(self.plan(shape, work.network, most))) // 2
            notice(f"out of memory: tiles of at most {most} voxels from here on", TilingWarning)

    def plan(self, shape: Sequence[int], network: Reconstructor, most: int) -> list[Tile]:
        """The tiles of a volume; one, the whole, where a result may depend on all of it."""
        return plan_tiles(shape, network.stride, network.halo, most)

    def _tiles(self, work: _Work, most: int) -> bool:
        """Do all tiles; False where memory ran out and smaller ones are worth a try."""
        shape = tuple(work.image.shape[2:])
        tiles = self.plan(shape, work.network, most)
        parts = _PARTS if math.prod(largest_tile(tiles)) > _LARGE else 1
        total = parts * len(tiles)
        try:
            for done, tile in enumerate(tiles):
                work.progress(done * parts, total)
                _do_tile(work, tile, _within(work, done * parts, parts, total) if parts > 1 else None)
        except Exception as error:
            size = math.prod(largest_tile(tiles))
            smaller = math.prod(largest_tile(self.plan(shape, work.network, size // 2)))
            if not is_out_of_memory(error) or smaller >= size:
                raise
            return False
        work.progress(total, total)
        return True


def _within(work: _Work, before: int, parts: int, total: int) -> Progress:
    """Progress within a tile, from that of each of its results."""
    others, ended = len(work.made), 0

    def tell(done: int, of: int) -> None:
        nonlocal ended
        work.progress(before + int(parts * (ended + done / of) / others), total)
        ended += done == of

    return tell


def _do_tile(work: _Work, tile: Tile, within: Progress | None) -> None:
    seen: tuple[Any, ...] = (..., *(slice(s.low, s.high) for s in tile))
    kept: tuple[Any, ...] = (..., *(slice(s.start - s.low, s.stop - s.low) for s in tile))
    target = [slice(s.start, s.stop) for s in tile]
    for r, result in zip(work.made, work.each(work.image[seen], within), strict=True):
        place: tuple[Any, ...] = (slice(None), work.channels(r), *target)
        work.output[place] = result[kept].to(work.output)


class SliceInferer(ResultsInferer):
    """Apply a 2D network to each slice (along the last axis) of a volume, or to a single image."""

    def _fill(self, work: _Work) -> None:
        if work.image.ndim == 4:  # a single image
            work = replace(work, image=work.image[..., None], output=work.output[..., None])
        image = work.image
        if image.ndim != 5:
            raise ModelError(
                f"a 2D network cannot take an image of {image.ndim - 2} axes", remedy="give a volume"
            )
        work.copy_control()
        if not work.made:
            return
        if work.network.window is not None:
            _slide(work, work.network.window)
            return
        plane = math.prod(image.shape[2:4])
        at_once = max(1, (self.most_voxels or affordable_voxels(work.device) // 4) // plane)
        at_once = min(at_once, image.shape[4])
        while not _do_slices(work, at_once):
            give_back(work.device)
            at_once //= 2
            notice(f"out of memory: {at_once} slices at once from here on", TilingWarning)


def inferer_for(network: Reconstructor, results: Sequence[str]) -> ResultsInferer:
    """The inferer of a network: slice by slice where it is 2D, else volumes."""
    return SliceInferer(results) if network.encoder.spatial_dims == 2 else VolumeInferer(results)


def _slide(work: _Work, window: tuple[int, ...]) -> None:
    """Windows of one size over slice after slice."""
    places = list(itertools.product(range(work.image.shape[0]), range(work.image.shape[4])))
    for number, (batch, k) in enumerate(places):
        one: Any = (slice(batch, batch + 1), ..., k)

        def tell(done: int, of: int, before: int = number) -> None:
            work.progress(before * of + done, len(places) * of)

        replace(work, image=work.image[one], output=work.output[one], progress=tell).windows(window)


def _do_slices(work: _Work, at_once: int) -> bool:
    """Do all slices, so many at once; False where memory ran out and fewer are worth a try."""
    image, steps = work.image, math.ceil(work.image.shape[4] / at_once)
    total = image.shape[0] * steps
    try:
        for batch in range(image.shape[0]):
            for done, start in enumerate(range(0, image.shape[4], at_once)):
                work.progress(batch * steps + done, total)
                piece = slice(start, start + at_once)
                slices = image[batch, ..., piece].permute(3, 0, 1, 2)
                for r, result in zip(work.made, work.each(slices), strict=True):
                    place = (batch, work.channels(r), ..., piece)
                    work.output[place] = result.permute(1, 2, 3, 0).to(work.output)
    except Exception as error:
        if not is_out_of_memory(error) or at_once == 1:
            raise
        return False
    work.progress(total, total)
    return True
