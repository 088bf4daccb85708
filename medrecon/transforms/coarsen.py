"""Pieces of a scan at the resolution it has, or by chance at a coarser one."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, RandomizableTransform


class RandCoarseCropd(RandomizableTransform, MapTransform):
    """Cut a random piece out of an image; by chance one whose voxels are means over several.

    Means along one axis are what thicker slices measure (a box for the slice's profile); along all axes, what
    larger voxels do. Unlike smoothing, or scaling down and up again, this gives sharp voxels with the noise
    that belongs to them. An axis that is coarse already, or too short, is not made coarser.

    Args:
        keys: the images, (C, *spatial); those of one item have one grid.
        roi_size: voxels of the piece along each axis; fewer where the image has fewer.
        prob: of a coarser piece.
        factors: over how many voxels a mean may go.
        max_spacing: mm between voxel centres that a mean does not exceed; says nothing of an image without
            metadata.

    Raises:
        ValueError: a factor below 2.
    """

    def __init__(
        self,
        keys: KeysCollection,
        roi_size: Sequence[int],
        prob: float = 0.3,
        factors: Sequence[int] = (2, 3, 4),
        max_spacing: float = 8.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if any(factor < 2 for factor in factors):
            raise ValueError(f"factors {tuple(factors)}: means go over 2 voxels or more")
        self.roi_size = tuple(int(n) for n in roi_size)
        self.factors = tuple(int(factor) for factor in factors)
        self.max_spacing = float(max_spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cut; the pieces are plain tensors."""
        item = dict(data)
        image = item[self.first_key(item)]
        shape = tuple(image.shape[1:])
        spacing = (
            affine_to_spacing(image.affine, len(shape))
            if isinstance(image, MetaTensor)
            else [0.0] * len(shape)
        )
        self.randomize((shape, [float(mm) for mm in spacing]))
        for key in self.key_iterator(item):
            item[key] = self._cut(item[key])
        return item

    def randomize(self, data: Any) -> None:
        """Draw how coarse, and where.

        Args:
            data: the image's spatial shape, and its spacing in mm.
        """
        shape, spacing = data
        super().randomize(None)
        self._sizes = [min(*pair) for pair in zip(self.roi_size, shape, strict=True)]
        self._means = [1] * len(shape)
        options = self.options(shape, spacing)
        if self._do_transform and options:
            self._means = list(options[self.R.randint(len(options))])
        spans = [size * mean for size, mean in zip(self._sizes, self._means, strict=True)]
        self._starts = [self.R.randint(n - span + 1) for n, span in zip(shape, spans, strict=True)]

    def options(self, shape: Sequence[int], spacing: Sequence[float]) -> list[tuple[int, ...]]:
        """Over how many voxels along each axis means may go: along one, or alike along all."""
        allowed = [
            [f for f in self.factors if f * size <= n and f * mm <= self.max_spacing]
            for size, n, mm in zip(self.roi_size, shape, spacing, strict=True)
        ]
        single = [
            tuple(f if other == axis else 1 for other in range(len(shape)))
            for axis, f in itertools.chain.from_iterable(
                ((axis, f) for f in fits) for axis, fits in enumerate(allowed)
            )
        ]
        return single + [(f,) * len(shape) for f in self.factors if all(f in fits for fits in allowed)]

    def _cut(self, image: torch.Tensor) -> torch.Tensor:
        piece = image.as_tensor() if isinstance(image, MetaTensor) else image
        for axis, (start, size, mean) in enumerate(
            zip(self._starts, self._sizes, self._means, strict=True), 1
        ):
            piece = piece.narrow(axis, start, size * mean)
        for axis, (size, mean) in enumerate(zip(self._sizes, self._means, strict=True), 1):
            if mean > 1:
                piece = piece.unflatten(axis, (size, mean)).mean(axis + 1)
        return piece.clone(memory_format=torch.contiguous_format)
