"""A bundle's network on volumes that are in memory already: all layers' features, and images of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged
from torch.nn import functional

from medrecon.atlas.layered import LayeredNetwork
from medrecon.features.maps.compute import grid_shape, visit_features
from medrecon.io.choices import check_units
from medrecon.io.scan import Scan
from medrecon.reconstructor import parse_layers

Fields = dict[str, torch.Tensor]
"""Layer -> (C, x, y, z) float32 on the CPU."""


@dataclass(frozen=True)
class Seen:
    """What the network makes of a volume.

    Attributes:
        image: (1, X, Y, Z) in [0, 1], as the network has it; with the way back in its metadata.
        fields: the features of each layer.
    """

    image: MetaTensor
    fields: Fields


class AuditNetwork(LayeredNetwork):
    """Runs a bundle on volumes; arguments and errors are those of `LayeredNetwork`.

    Raises:
        ScanError: the network does not take these scans.
    """

    def __init__(self, bundle: str | Path, scans: Sequence[Scan], **options: Any) -> None:
        super().__init__(bundle, scans, **options)
        for scan in scans:
            check_units(self.network.encoder.units, scan)
        steps = self.parts.preprocessing
        kept = steps.transforms if isinstance(steps, Compose) else (steps,)
        self._prepare = Compose([step for step in kept if not isinstance(step, LoadImage | LoadImaged)])

    def see(self, volume: MetaTensor) -> Seen:
        """The features of a volume (1, X, Y, Z) in the units of its scan.

        Raises:
            ModelError: the network cannot take it.
        """
        image = self._prepare({"image": volume.clone()})["image"]
        shape = image.shape[1:]
        fields = {info.name: torch.empty(info.channels, *grid_shape(info, shape)) for info in self.asked}

        def keep(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            fields[name][(slice(None), *where)] = values

        visit_features(self.network.encoder, image.as_tensor().float(), self.asked, self.device, keep)
        return Seen(image, fields)

    def invert(self, result: str, seen: Seen, fields: Fields | None = None) -> torch.Tensor:
        """The image (X, Y, Z) in [0, 1] that a result's features give back; others than its own, if given."""
        given = seen.fields if fields is None else fields
        flat = self.network.encoder.spatial_dims == 2
        shape = tuple(seen.image.shape[1:])
        features = {
            name: (given[name].permute(3, 0, 1, 2) if flat else given[name][None]).to(self.device)
            for name in parse_layers(result)
        }
        whole = seen.image.as_tensor().float()
        whole = whole.permute(3, 0, 1, 2) if flat else whole[None]
        with (
            torch.inference_mode(),
            self.network.conditioned_on(whole),
            self.network.precision(self.device),
        ):
            made = self.network.inversion(features, shape[:2] if flat else shape)
        made = made.float().cpu()
        return made[:, 0].permute(1, 2, 0) if flat else made[0, 0]

    def home(self, image: torch.Tensor, seen: Seen) -> np.ndarray:
        """An image (X, Y, Z) of the network brought back to the grid and the units of its volume."""
        item: Any = {"image": seen.image, "pred": MetaTensor(image[None])}
        with torch.inference_mode():
            for step in self.parts.home:
                item = step(item)
        return np.asarray(item["pred"][0].detach().cpu().numpy(), np.float32)


def pooled(field: torch.Tensor, most: int) -> np.ndarray:
    """Means of a field (C, x, y, z) over a cube of positions, as many as make at most `most` values."""
    side = max(1, round((most / len(field)) ** (1 / 3) - 0.499))
    x, y, z = (min(n, side) for n in field.shape[1:])
    return np.asarray(functional.adaptive_avg_pool3d(field[None], (x, y, z))[0].flatten().numpy(), np.float32)
