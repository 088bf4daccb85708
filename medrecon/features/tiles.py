"""Encoding and decoding piece by piece: memory for one piece, and no seams between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from medrecon.blocks.tiles import Tile, plan_tiles
from medrecon.contract import Decoder, Features, LayerInfo, Progress, untold
from medrecon.errors import ModelError, OutOfMemoryError
from medrecon.features.cropping import CHANNELS_LAST, Block, slice_block, volume_block
from medrecon.features.metadata import LayerFacts
from medrecon.inference.memory import MOST_VOXELS, affordable_voxels, free_bytes
from medrecon.reconstructor import Reconstructor, encoder_halo

Read = Callable[..., np.ndarray]
"""`read(layer, *slices)`: values of a layer, float32."""

_COMPUTED_IN = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SLICES = 1 << 22  # pixels of a batch of slices; larger ones are no faster
_BUFFERS = 12  # bytes for each value of the layers that are kept: the value, and two buffers on the way


def grid_of(network: Reconstructor) -> int:
    """Voxels on whose multiples volumes are cut: every stride of the encoder divides it."""
    return math.lcm(*(step for layer in network.encoder.layers() for step in layer.stride))


def check_window(network: Reconstructor, shape: Sequence[int]) -> None:
    """Refuse encoders that slide a window over the image: its features overlap and are no one map.

    Raises:
        ModelError: the image is not just the window.
    """
    window = network.window
    if window is not None and tuple(window) != tuple(shape[: len(window)]):
        raise ModelError(
            f"the encoder slides a window of {'x'.join(map(str, window))} over an image of "
            f"{'x'.join(map(str, shape))}: its features overlap and cannot be kept as one map",
            remedy="use medrecon reconstruct, or an encoder that takes any size",
        )


def encode_image(
    network: Reconstructor,
    image: torch.Tensor,
    layers: Sequence[LayerInfo],
    device: torch.device,
    most: int | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Block]]:
    """Features of a volume, piece by piece; the first piece is the last of each axis and tells the sizes.

    An encoder that looks at its whole image (statistics, a budget) sees the volume while pieces are taken.

    Args:
        network: a `Reconstructor`.
        image: (X, Y, Z) in the network's scale.
        layers: those to compute.
        device: where.
        most: voxels of a piece; by default what the free memory allows.
        progress: called with (done, of).

    Yields:
        Layer -> block.

    Raises:
        ModelError: the network cannot take this image, or gives what cannot be kept.
        OutOfMemoryError: one piece would not fit.
    """
    check_window(network, image.shape)
    with network.conditioned_on(image[None, None]):
        yield from _pieces(network, image, layers, device, most, progress or untold)


def _pieces(
    network: Reconstructor,
    image: torch.Tensor,
    layers: Sequence[LayerInfo],
    device: torch.device,
    most: int | None,
    progress: Progress,
) -> Iterator[dict[str, Block]]:
    """What `encode_image` yields."""
    names = [layer.name for layer in layers]
    rate = sum(layer.tensor_rate for layer in layers)
    budget = free_bytes(device) // 2
    if len(layers[0].stride) == 2:
        plane = image.shape[0] * image.shape[1]
        each = max(4 * Decoder.bytes_per_voxel, _BUFFERS * rate)
        count = max(1, (most or min(_SLICES, int(budget / each))) // plane)
        starts = range(0, image.shape[2], count)
        for done, start in enumerate(starts):
            progress(done, len(starts))
            slices = image[:, :, start : start + count].permute(2, 0, 1)[:, None]
            features = _encode(network, slices.contiguous(), names, device)
            stop = start + len(slices)
            yield {
                layer.name: slice_block(features[layer.name], layer, image.shape, slice(start, stop))
                for layer in layers
            }
        progress(len(starts), len(starts))
        return
    each = max(Decoder.bytes_per_voxel, _BUFFERS * rate)
    most = most or min(MOST_VOXELS, int(budget / each))
    tiles = plan_tiles(image.shape, grid_of(network), encoder_halo(layers), most)
    largest = max(math.prod(s.high - s.low for s in tile) for tile in tiles)
    if largest * _BUFFERS * rate > 2 * budget:
        raise OutOfMemoryError(
            f"its layers see the whole image: {largest} voxels with {rate:.3g} values each do not fit memory",
            remedy="choose deeper layers, or a machine with more memory",
        )
    for done, tile in enumerate(reversed(tiles)):
        progress(done, len(tiles))
        seen = image[tuple(slice(s.low, s.high) for s in tile)]
        features = _encode(network, seen[None, None], names, device)
        yield {layer.name: volume_block(features[layer.name], layer, image.shape, tile) for layer in layers}
    progress(len(tiles), len(tiles))


def decode_image(
    network: Reconstructor,
    read: Read,
    layers: Mapping[str, LayerFacts],
    shape: Sequence[int],
    device: torch.device,
    most: int | None = None,
    progress: Progress | None = None,
) -> torch.Tensor:
    """The volume behind features, in the network's scale.

    Args:
        network: a `Reconstructor`; its encoder is not used.
        read: gives the features.
        layers: those to decode from.
        shape: (X, Y, Z) of the volume.
        device: where.
        most: voxels of a piece; by default what the free memory allows.
        progress: called with (done, of).

    Returns:
        (X, Y, Z) float32 on the CPU.
    """
    image, progress = torch.empty(tuple(shape)), progress or untold
    if len(next(iter(layers.values())).stride) == 2:
        count = max(1, (most or min(_SLICES, affordable_voxels(device) // 4)) // (shape[0] * shape[1]))
        starts = range(0, shape[2], count)
        for done, start in enumerate(starts):
            progress(done, len(starts))
            stop = min(start + count, shape[2])
            image[:, :, start:stop] = decode_slices(network, read, layers, shape, slice(start, stop), device)
        progress(len(starts), len(starts))
        return image
    most = most or affordable_voxels(device)
    tiles = plan_tiles(shape, grid_of(network), network.inversion.reach, most)
    for done, tile in enumerate(tiles):
        progress(done, len(tiles))
        target = tuple(slice(s.start, s.stop) for s in tile)
        image[target] = decode_tile(network, read, layers, shape, tile, device)
    progress(len(tiles), len(tiles))
    return image


def decode_tile(
    network: Reconstructor,
    read: Read,
    layers: Mapping[str, LayerFacts],
    shape: Sequence[int],
    tile: Tile,
    device: torch.device,
) -> torch.Tensor:
    """The kept part of one tile of a volume: (X, Y, Z) float32 on the CPU; arguments as `decode_image`."""
    given = {}
    for name, layer in layers.items():
        places = [
            slice(span.low // step, count if span.high == size else -(-span.high // step))
            for span, step, count, size in zip(tile, layer.stride, layer.shape[1:], shape, strict=True)
        ]
        given[name] = read(name, slice(0, layer.channels), *places)[None]
    made = _decode(network, given, layers, [span.high - span.low for span in tile], device)
    return made[0, 0][tuple(slice(s.start - s.low, s.stop - s.low) for s in tile)].float().cpu()


def decode_slices(
    network: Reconstructor,
    read: Read,
    layers: Mapping[str, LayerFacts],
    shape: Sequence[int],
    which: slice,
    device: torch.device,
) -> torch.Tensor:
    """Some slices of a volume: (X, Y, slices) float32 on the CPU; arguments as `decode_image`."""
    given = {
        name: read(name, which, *(slice(0, n) for n in layer.shape[1:])) for name, layer in layers.items()
    }
    return _decode(network, given, layers, shape[:2], device)[:, 0].permute(1, 2, 0).float().cpu()


def _encode(network: Reconstructor, image: torch.Tensor, names: list[str], device: torch.device) -> Features:
    with torch.inference_mode(), network.precision(device):
        features: Features = network.encoder(image.to(device, torch.float32), names)
    return features


def _decode(
    network: Reconstructor,
    given: Mapping[str, np.ndarray],
    layers: Mapping[str, LayerFacts],
    shape: Sequence[int],
    device: torch.device,
) -> torch.Tensor:
    """Run the inversion in the arithmetic of `Reconstructor`, on features of the type it would have got."""
    with torch.inference_mode(), network.precision(device):
        mixed = torch.is_autocast_enabled(device.type)
        features = {}
        for name, values in given.items():
            dtype = _COMPUTED_IN[layers[name].computed_in] if mixed else torch.float32
            order = CHANNELS_LAST[values.ndim] if layers[name].channels_last else torch.contiguous_format
            features[name] = torch.from_numpy(values).to(device, dtype, memory_format=order)
        made: torch.Tensor = network.inversion(features, tuple(shape))
    return made
