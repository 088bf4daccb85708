"""Whether tiled is whole: the difference between a volume in tiles and in one piece, measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from monai.inferers import Inferer

from medrecon.blocks.tiles import Tile, arithmetic, cut, largest_tile
from medrecon.errors import ModelError
from medrecon.inference.memory import affordable_voxels, free_voxels
from medrecon.inference.tiling import VolumeInferer
from medrecon.reconstructor import Reconstructor

LIMIT = 1e-4
"""Largest difference that counts as none, as a share of the range."""


@dataclass(frozen=True)
class TilingCheck:
    """What was measured.

    Attributes:
        shape: spatial size of the scan.
        tiles: into how many tiles it is cut.
        tile: spatial size of the largest of them, halo included.
        halo: voxels that each tile is seen with to either side.
        arithmetic: of all tiles, beside that of one pass.
        region: spatial size of what was compared: the scan, or the middle of it where the whole does not fit
            into memory in one piece.
        used: largest difference from the region in one piece, as a share of the range, with tiles as large as
            those that are used (0 where the region is one tile).
        small: the same with the region cut in two along each axis.
        precision: the arithmetic of the convolutions.
        float32: `small` in float32, where it was measured because the precision in use does not hold `LIMIT`.
    """

    shape: tuple[int, ...]
    tiles: int
    tile: tuple[int, ...]
    halo: int
    arithmetic: float
    region: tuple[int, ...]
    used: float
    small: float
    precision: str
    float32: float | None = None

    @property
    def passed(self) -> bool:
        """Whether there are no seams: what is left is the rounding of the precision in use."""
        return self.float32 <= LIMIT if self.float32 is not None else max(self.used, self.small) <= LIMIT

    def data(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {**asdict(self), "limit": LIMIT, "passed": self.passed}

    def words(self) -> str:
        """One line."""
        tile, region = (" x ".join(map(str, size)) for size in (self.tile, self.region))
        line = (
            f"{self.tiles} tile(s) of up to {tile} voxels, halo {self.halo}, {self.arithmetic:.2f} times the "
            f"arithmetic of one pass; largest difference from one piece ({region}), as a share of the range: "
            f"{self.used:.1e} in these tiles, {self.small:.1e} with each axis cut in two, in {self.precision}"
        )
        return line if self.float32 is None else f"{line}; {self.float32:.1e} in float32"


class _Halved(VolumeInferer):
    """Cuts each axis in two."""

    def plan(self, shape: Sequence[int], network: Reconstructor, most: int) -> list[Tile]:
        step, halo = network.stride, math.ceil((network.halo or 0) / network.stride) * network.stride
        halves = [math.ceil(math.ceil(n / step) / 2) * step for n in shape]
        return list(itertools.product(*(cut(n, core, halo) for n, core in zip(shape, halves, strict=True))))


def check_tiling(image: torch.Tensor, network: Reconstructor, inferer: Inferer) -> TilingCheck:
    """Compare an inferer's tiles with the volume in one piece.

    Args:
        image: (1, 1, *spatial) in the network's scale, where the range is 1.
        network: a `Reconstructor`.
        inferer: a `VolumeInferer`; its results are compared, the image itself left out.

    Raises:
        ModelError: nothing is tiled here: slices, windows of one size, or a network that sees all of it.
    """
    halo = network.halo
    if not isinstance(inferer, VolumeInferer) or network.window or halo is None:
        raise ModelError(
            "this network is not run in tiles: there is nothing to compare",
            remedy="leave out --check-tiling",
        )
    device = next((p.device for p in network.parameters()), image.device)
    shape = tuple(image.shape[2:])
    each = network.inversion.bytes_per_voxel
    most = inferer.most_voxels or affordable_voxels(device, each)
    tiles = inferer.plan(shape, network, most)
    region = _middle(image, max(most, free_voxels(device, each)), network.stride)
    results = [name for name in inferer.results if name != "input"] or [network.default]

    def difference() -> tuple[float, float]:
        whole = VolumeInferer(results, most_voxels=1 << 62)(region, network)
        one = len(inferer.plan(region.shape[2:], network, most)) == 1
        used = 0.0 if one else _largest(whole, VolumeInferer(results, most_voxels=most)(region, network))
        return used, _largest(whole, _Halved(results)(region, network))

    with torch.inference_mode():
        used, small = difference()
        mixed = network.mixed_precision
        exact = None
        with network.precision(device):
            lowered = torch.is_autocast_enabled(device.type)
        if lowered and max(used, small) > LIMIT:
            network.mixed_precision = False
            try:
                exact = max(difference())
            finally:
                network.mixed_precision = mixed
    return TilingCheck(
        shape=shape,
        tiles=len(tiles),
        tile=largest_tile(tiles),
        halo=halo,
        arithmetic=round(arithmetic(shape, tiles), 3),
        region=tuple(region.shape[2:]),
        used=used,
        small=small,
        precision="bfloat16" if lowered else "float32",
        float32=exact,
    )


def _middle(image: torch.Tensor, most: int, stride: int) -> torch.Tensor:
    """The image, or as much of its middle along its longest axis as has so many voxels."""
    size = list(image.shape[2:])
    axis = size.index(max(size))
    across = image[0, 0].numel() // size[axis]
    length = min(size[axis], max(stride, most // across // stride * stride))
    start = (size[axis] - length) // 2 // stride * stride
    return image.narrow(2 + axis, start, length)


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
