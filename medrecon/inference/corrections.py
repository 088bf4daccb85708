"""Samples are pulled to the features that they were drawn from; none is ever farther off than before.

By the decoder, where it maps its own answers' features back to these answers; else by the gradient of the
features' distance, which any encoder that can be differentiated has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from medrecon.blocks.tiles import Tile, plan_tiles
from medrecon.contract import Decoder, Features, Progress
from medrecon.errors import ModelError
from medrecon.inference.memory import affordable_voxels
from medrecon.reconstructor import Reconstructor, parse_layers

GRAPH = 8
"""Memory of a pass that can be gone back through, over that of one that cannot."""

_SHORTEN, _TRIES = 1 / 3, 5

Objective = Callable[[torch.Tensor], tuple[float, torch.Tensor]]
"""A distance at an image, and its gradient there."""


def by_decoder(
    sample: torch.Tensor,
    base: torch.Tensor,
    again: Callable[[torch.Tensor], torch.Tensor],
    count: int,
    progress: Progress,
) -> torch.Tensor:
    """Add what the decoder misses (back-projection: Irani and Peleg 1991), as long as that misses less.

    Args:
        sample: (1, 1, *spatial).
        base: what the decoder made of the features wanted.
        again: what it makes of those of an image.
        count: corrections; there is one pass more, which checks the last.
        progress: told (passes done, passes in all).
    """
    best, least = sample, math.inf
    for done in range(count + 1 if count else 0):
        progress(done, count + 1)
        missing = base - again(sample)
        gap = float(missing.square().mean())
        if gap > least:
            break
        # not in place: what was made of a sample may share its memory
        best, least, sample = sample, gap, sample + missing
    return best


def by_gradient(
    network: Reconstructor,
    image: torch.Tensor,
    sample: torch.Tensor,
    weight: torch.Tensor,
    result: str,
    count: int,
    progress: Progress,
    most_voxels: int | None = None,
) -> torch.Tensor:
    """Descend the distance of the features to those of an image; slices one by one where the network is 2D.

    Args:
        network: whose encoder is asked.
        image: that has the features wanted, (1, 1, *spatial), a volume or one image.
        sample: the same shape.
        weight: how far each voxel may move: the variance of the residual there.
        result: the layers.
        count: steps.
        progress: told (parts done, parts in all).
        most_voxels: largest tile of a volume.

    Raises:
        ModelError: the encoder must be given windows of one size.
    """
    if network.window is not None:
        raise ModelError(
            "samples cannot be corrected by the gradient of an encoder that wants windows of one size",
            remedy="set corrections to 0",
        )
    device = next(network.parameters()).device
    # whoever samples is in inference mode, in which nothing can be gone back through
    with torch.inference_mode(False), torch.enable_grad(), network.conditioned_on(image.clone()):
        if network.encoder.spatial_dims == image.ndim - 2:
            parts: list[Any] = [...]
        else:
            parts = [(..., k) for k in range(image.shape[-1])]
        made = sample.clone()
        for number, part in enumerate(parts):

            def tell(done: int, of: int, before: int = number) -> None:
                progress(before * of + done, len(parts) * of)

            distance = FeatureDistance(network, image[part].clone(), result, device, most_voxels)
            made[part] = descend(distance, sample[part].clone(), weight[part].clone(), count, tell)
    return made


def descend(
    objective: Objective, image: torch.Tensor, weight: torch.Tensor, count: int, progress: Progress
) -> torch.Tensor:
    """A few steps of conjugate gradients (Polak and Ribiere 1969); what rises is no step, and ends it.

    Args:
        objective: to be lowered.
        image: where it begins.
        weight: of each voxel, above 0: the preconditioner.
        count: steps.
        progress: told (steps done, steps).
    """
    value, gradient = objective(image)
    before = direction = -weight * gradient
    step = None
    for done in range(count):
        progress(done, count)
        slope = float((direction * gradient).sum())
        if slope >= 0:
            break
        step = -value / 2 / slope if step is None else step
        for _ in range(_TRIES):
            there = image + step * direction
            lower, turned = objective(there)
            if lower < value:
                break
            step *= _SHORTEN
        else:
            break
        steepest = -weight * turned
        share = -float((steepest * (gradient - turned)).sum() / (before * gradient).sum())
        direction = steepest + max(0.0, share) * direction
        if float((direction * turned).sum()) >= 0:
            direction = steepest
        image, value, gradient, before, step = there, lower, turned, steepest, 1.5 * step
    return image


class FeatureDistance:
    """Squared distance of an image's features to another's, over the squared length of these; layers' mean.

    Computed tile by tile, each with so much around it that its gradient is that of the whole.

    Args:
        network: whose encoder is asked.
        image: that has the features wanted, (1, 1, *spatial).
        result: the layers.
        device: where the network is.
        most_voxels: largest tile; by default what half of the free memory holds.
    """

    def __init__(
        self,
        network: Reconstructor,
        image: torch.Tensor,
        result: str,
        device: torch.device,
        most_voxels: int | None = None,
    ) -> None:
        self.network, self.image, self.names, self.device = network, image, parse_layers(result), device
        shape = image.shape[2:]
        each = GRAPH * max(network.inversion.bytes_per_voxel, Decoder.bytes_per_voxel)
        most = most_voxels or affordable_voxels(device, each)
        halo = network.halo if network.encoder.spatial_dims == 3 else None
        self.tiles = plan_tiles(shape, network.stride, None if halo is None else 2 * halo, most)
        self.strides = {layer.name: layer.stride for layer in network.encoder.layers()}
        self.lengths = dict.fromkeys(self.names, 0.0)
        self.kept: Features | None = None
        for tile in self.tiles:
            features = self._wanted(tile)
            for name in self.names:
                self.lengths[name] += float(self._core(features[name], name, tile).double().square().sum())
            self.kept = features if len(self.tiles) == 1 else None

    def __call__(self, image: torch.Tensor) -> tuple[float, torch.Tensor]:
        """(1, 1, *spatial) -> the distance, and its gradient of the same shape."""
        total, gradient = 0.0, torch.empty_like(image)
        for tile in self.tiles:
            seen: tuple[Any, ...] = (..., *(slice(s.low, s.high) for s in tile))
            kept: tuple[Any, ...] = (..., *(slice(s.start - s.low, s.stop - s.low) for s in tile))
            place: tuple[Any, ...] = (..., *(slice(s.start, s.stop) for s in tile))
            wanted = self.kept or self._wanted(tile)
            piece = image[seen].to(self.device, copy=True).requires_grad_()
            with self.network.precision(self.device):
                found = self.network.encoder(piece, self.names)
            loss = piece.new_zeros(())
            for name in self.names:
                apart = (found[name].float() - wanted[name].float()).square()
                share = 1 / max(self.lengths[name], 1e-12) / len(self.names)
                loss = loss + share * apart.sum()
                total += share * float(self._core(apart.detach(), name, tile).double().sum())
            gradient[place] = torch.autograd.grad(loss, piece)[0][kept].to(gradient)
        return total, gradient

    def _wanted(self, tile: Tile) -> Features:
        seen: tuple[Any, ...] = (..., *(slice(s.low, s.high) for s in tile))
        with torch.no_grad(), self.network.precision(self.device):
            features: Features = self.network.encoder(self.image[seen].to(self.device), self.names)
        return features

    def _core(self, features: torch.Tensor, name: str, tile: Tile) -> torch.Tensor:
        """The positions that belong to a tile alone."""
        if len(self.tiles) == 1:
            return features
        inside: tuple[Any, ...] = (
            ...,
            *(
                slice((span.start - span.low) // step, math.ceil((span.stop - span.low) / step))
                for span, step in zip(tile, self.strides[name], strict=True)
            ),
        )
        return features[inside]
