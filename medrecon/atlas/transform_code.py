"""The control of a network: the transform code that comes along, with as many values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from medrecon.bundle.config import Bundle
from medrecon.contract import Encoder, LayerInfo

BUNDLES = {2: "slice_transform_code", 3: "volume_transform_code"}
_AS_MANY = 0.05
"""By what share the values may differ."""


class TransformCode:
    """`volume_transform_code` or `slice_transform_code`, which spend their values where a scan is busy.

    Its levels hold certain numbers of values for each voxel: a result has this control where one of them has
    as many.

    Args:
        dims: 3, or 2 for slices.
        device: where it runs.

    Raises:
        ModelError: the bundle cannot be opened.
    """

    def __init__(self, dims: int, device: torch.device) -> None:
        bundle = Bundle.open(BUNDLES[dims], {"device": device})
        self._network = bundle.network(device)
        self._inferer: Any = bundle.build("inferer")
        self._device = device

    def level_of(self, rate: float) -> str | None:
        """The level that holds as many values for each voxel, if there is one that loses any."""
        near = {abs(info.values_per_voxel - rate) / rate: info.name for info in self._lossy()}
        best = min(near, default=1.0)
        return near[best] if best <= _AS_MANY else None

    def codes(self, encoder: Encoder) -> bool:
        """Whether an encoder is this very code."""
        return type(encoder.unwrapped) is type(self._network.encoder.unwrapped)

    def coded(self, image: torch.Tensor, rates: Mapping[str, float]) -> Iterator[tuple[str, torch.Tensor]]:
        """Each result that has this control, and what the code makes of as many values.

        Args:
            image: (1, 1, X, Y, Z) in [0, 1].
            rates: result -> its values for each voxel.

        Yields:
            (result, (X, Y, Z)).
        """
        levels = {result: level for result, rate in rates.items() if (level := self.level_of(rate))}
        wanted = list(dict.fromkeys(levels.values()))
        if not wanted:
            return
        self._inferer.results = wanted
        made = self._inferer(image.to(self._device), self._network)[0]
        for result, level in levels.items():
            yield result, made[wanted.index(level)]

    def _lossy(self) -> list[LayerInfo]:
        return [info for info in self._network.layers() if info.values_per_voxel < 1]
