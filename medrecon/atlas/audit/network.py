"""A bundle's network on volumes that are in memory already: all layers' features, and images of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged
from torch.nn import functional

from medrecon.bundle.results import parse_results
from medrecon.contract import LayerInfo
from medrecon.errors import UsageError
from medrecon.features.maps.compute import grid_shape, visit_features
from medrecon.inference.parts import open_parts
from medrecon.io.choices import check_units
from medrecon.io.scan import Scan
from medrecon.reconstructor import INPUT, parse_layers

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


class AuditNetwork:
    """Runs a bundle on volumes; writes nothing.

    Args:
        bundle: name of a bundle that comes with medrecon, or a bundle's folder.
        scans: what the volumes come from.
        output: a path that does not exist: only its name is used, by the bundle's own plan.
        layers: results, as text or list; None takes each of the network's layers.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overrides: further settings of the bundle, such as encoder_weights.

    Attributes:
        results: the names of what is audited: a layer, or several joined by a plus.
        infos: layer -> what the network declares of it.

    Raises:
        ModelError: the bundle, its weights or a layer cannot be used.
        ScanError: the network does not take these scans.
        UsageError: the options do not make sense.
    """

    def __init__(
        self,
        bundle: str | Path,
        scans: Sequence[Scan],
        *,
        output: Path,
        layers: str | Sequence[str] | None = None,
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if layers is not None and INPUT in parse_results(layers):
            raise UsageError(
                "'input' is no layer", remedy="leave it out: the scan itself stands beside the layers"
            )
        self._parts = parts = open_parts(
            bundle,
            scans=scans,
            output=output,
            layers=layers,
            each_layer=True,
            device=device,
            output_format="nifti",
            overrides=overrides,
        )
        self.bundle, self.network, self.results = parts.bundle, parts.network, parts.results
        for scan in scans:
            check_units(self.network.encoder.units, scan)
        self.infos: dict[str, LayerInfo] = {info.name: info for info in self.network.layers()}
        self._asked = [
            info
            for info in self.network.layers()
            if any(info.name in parse_layers(result) for result in self.results)
        ]
        steps = parts.preprocessing
        kept = steps.transforms if isinstance(steps, Compose) else (steps,)
        self._prepare = Compose([step for step in kept if not isinstance(step, LoadImage | LoadImaged)])

    @property
    def facts(self) -> dict[str, str]:
        """Model, version, hash of the weights, device."""
        sha256 = next((d.weights_sha256 for d in self._parts.saver.derivation.values()), "")
        return {
            "model": self.bundle.name,
            "model_version": self.bundle.version,
            "weights_sha256": sha256,
            "device": str(self._parts.device),
        }

    def rate(self, result: str) -> float:
        """Values that a result keeps for each voxel."""
        return sum(self.infos[layer].values_per_voxel for layer in parse_layers(result))

    def see(self, volume: MetaTensor) -> Seen:
        """The features of a volume (1, X, Y, Z) in the units of its scan.

        Raises:
            ModelError: the network cannot take it.
        """
        image = self._prepare({"image": volume.clone()})["image"]
        shape = image.shape[1:]
        fields = {info.name: torch.empty(info.channels, *grid_shape(info, shape)) for info in self._asked}

        def keep(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            fields[name][(slice(None), *where)] = values

        visit_features(self.network.encoder, image.as_tensor().float(), self._asked, self._parts.device, keep)
        return Seen(image, fields)

    def invert(self, result: str, seen: Seen, fields: Fields | None = None) -> torch.Tensor:
        """The image (X, Y, Z) in [0, 1] that a result's features give back; others than its own, if given."""
        given = seen.fields if fields is None else fields
        flat = self.network.encoder.spatial_dims == 2
        shape = tuple(seen.image.shape[1:])
        features = {
            name: (given[name].permute(3, 0, 1, 2) if flat else given[name][None]).to(self._parts.device)
            for name in parse_layers(result)
        }
        whole = seen.image.as_tensor().float()
        whole = whole.permute(3, 0, 1, 2) if flat else whole[None]
        with (
            torch.inference_mode(),
            self.network.conditioned_on(whole),
            self.network.precision(self._parts.device),
        ):
            made = self.network.inversion(features, shape[:2] if flat else shape)
        made = made.float().cpu()
        return made[:, 0].permute(1, 2, 0) if flat else made[0, 0]

    def home(self, image: torch.Tensor, seen: Seen) -> np.ndarray:
        """An image (X, Y, Z) of the network brought back to the grid and the units of its volume."""
        item: Any = {"image": seen.image, "pred": MetaTensor(image[None])}
        with torch.inference_mode():
            for step in self._parts.home:
                item = step(item)
        return np.asarray(item["pred"][0].detach().cpu().numpy(), np.float32)


def pooled(field: torch.Tensor, most: int) -> np.ndarray:
    """Means of a field (C, x, y, z) over a cube of positions, as many as make at most `most` values."""
    side = max(1, round((most / len(field)) ** (1 / 3) - 0.499))
    x, y, z = (min(n, side) for n in field.shape[1:])
    return np.asarray(functional.adaptive_avg_pool3d(field[None], (x, y, z))[0].flatten().numpy(), np.float32)
