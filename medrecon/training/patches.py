"""Training patches of any network: slices or volumes, of the size that it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from monai.transforms import (
    CenterSpatialCropd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    RandZoomd,
    SpatialPadd,
    SqueezeDimd,
)

from medrecon.contract import Encoder

KEY = "image"
SIDE = {2: 128, 3: 64}
"""Of a patch, where the network takes any size."""

SLICES = 4
"""Of a generated volume of which a network of slices gets one."""


def patch_of(encoder: Encoder) -> list[int]:
    """The size of patch to train on: the network's own window, else a usual one that suits its strides.

    Args:
        encoder: whose layers are inverted.
    """
    if encoder.window is not None:
        return list(encoder.window)
    dims = encoder.spatial_dims
    strides = [info.stride for info in encoder.layers()]
    multiple = encoder.multiple or (1,) * dims
    steps = [math.lcm(multiple[axis], *(stride[axis] for stride in strides)) for axis in range(dims)]
    return [step * math.ceil(SIDE[dims] / step) for step in steps]


def random_patch(size: Sequence[int]) -> list[Any]:
    """A patch anywhere in a volume {"image": (1, X, Y, Z)}: (1, *size); of two sizes, from one slice.

    What is smaller is padded by reflection.
    """
    if len(size) == 3:
        pad = SpatialPadd(KEY, spatial_size=size, mode="symmetric")
        return [pad, RandSpatialCropd(KEY, roi_size=size, random_size=False)]
    slab = [*size, 1]
    pad = SpatialPadd(KEY, spatial_size=slab, mode="symmetric")
    return [pad, RandSpatialCropd(KEY, roi_size=slab, random_size=False), SqueezeDimd(KEY, dim=-1)]


def central_patch(size: Sequence[int]) -> list[Any]:
    """The patch in the middle, likewise."""
    if len(size) == 3:
        return [CenterSpatialCropd(KEY, roi_size=size)]
    return [CenterSpatialCropd(KEY, roi_size=[*size, 1]), SqueezeDimd(KEY, dim=-1)]


def phantom_shape(size: Sequence[int]) -> list[int]:
    """The volume to generate for a patch of that size."""
    return [*size] if len(size) == 3 else [*size, SLICES]


def augmentation(size: Sequence[int]) -> list[Any]:
    """What a patch of that size may go through: no direction of a scan, exposure or sharpness is special."""
    dims = len(size)
    turned: list[Any] = [RandFlipd(KEY, prob=0.5, spatial_axis=axis) for axis in range(2)]
    if size[0] == size[1]:
        turned.append(RandRotate90d(KEY, prob=0.5, max_k=1, spatial_axes=(0, 1)))
    if dims == 2:
        zoom = RandZoomd(KEY, prob=0.3, min_zoom=0.8, max_zoom=1.5, mode="bilinear", padding_mode="edge")
        turned.append(zoom)
    blur = (0.3, 0.8)
    return [
        *turned,
        RandScaleIntensityd(KEY, prob=0.3, factors=0.3),
        RandShiftIntensityd(KEY, prob=0.3, offsets=0.1),
        RandGaussianNoised(KEY, prob=0.1, std=0.03),
        RandGaussianSmoothd(KEY, prob=0.1, sigma_x=blur, sigma_y=blur, sigma_z=blur),
    ]
