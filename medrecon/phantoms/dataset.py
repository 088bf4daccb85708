"""Random volumes as a torch dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch.utils.data import Dataset

from medrecon.phantoms.generator import Modality, random_contrasts, random_volume


class PhantomDataset(Dataset[dict[str, Any]]):
    """Random scans; item i of epoch e depends on (seed, e, i) alone, not on workers or order.

    Args:
        length: items in an epoch.
        shape: (X, Y, Z) voxels of each item.
        seed: of the whole run.
        modality: "CT", "MR" or None for either.
        contrasts: so many scans of the same anatomy are the channels of an image.
        transform: called on each item, such as a MONAI `Compose`.

    Items: {"image": (contrasts, X, Y, Z) float32 MetaTensor, its meta["units"] like "units": "HU" or ""}.
    """

    def __init__(
        self,
        length: int,
        shape: Sequence[int],
        seed: int = 0,
        *,
        modality: Modality | None = None,
        contrasts: int = 1,
        transform: Any = None,
    ) -> None:
        self.length = int(length)
        self.shape = tuple(int(n) for n in shape)
        self.seed = int(seed)
        self.modality = modality
        self.contrasts = int(contrasts)
        self.transform = transform
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose items come next (before a loader starts its workers)."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of {self.length}")
        rng = np.random.default_rng([self.seed, self.epoch, index])
        meta: dict[str, Any] = {}
        if self.contrasts == 1:
            volume, meta["units"] = random_volume(self.shape, rng, self.modality)
            volume = volume[None]
        else:
            volume, meta["units"] = random_contrasts(self.shape, rng, self.contrasts, self.modality)
            meta["channel_units"] = "\n".join([meta["units"]] * self.contrasts)
        image = MetaTensor(torch.from_numpy(volume), meta=meta)
        item: dict[str, Any] = {"image": image, "units": meta["units"]}
        return item if self.transform is None else self.transform(item)
