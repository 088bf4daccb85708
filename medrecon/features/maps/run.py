"""Chosen layers of a scan as volumes: all channels, the strongest, or principal components as colour."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medrecon.blocks.weights import fingerprint
from medrecon.contract import Encoder, LayerInfo, Progress
from medrecon.encoders.channels import ChannelsEncoder, find_channels
from medrecon.encoders.naming import resolve_layers
from medrecon.encoders.offsets import measure_offsets
from medrecon.errors import OutOfMemoryError, UsageError
from medrecon.features.destinations import check_space, readable
from medrecon.features.maps.components import COLOURS, Components
from medrecon.features.maps.compute import grid_shape, visit_features
from medrecon.features.maps.writing import FORMATS, layer_affine, write_map
from medrecon.inference.memory import free_bytes
from medrecon.io import publish
from medrecon.io.files.names import safe_name

RECORD = "features.json"
KEEP = "all, strongest:N or colours"


@dataclass(frozen=True)
class FeatureMap:
    """One layer of one scan.

    Attributes:
        layer: its name, channels and stride.
        offset: the voxel of the network's image at which its first position is centred, along each axis.
        values: (C, x, y, z) float32, or (3, x, y, z) uint8 for colours.
        affine: (4, 4), position -> RAS mm.
        channels: which channels the values are; () for colours.
        shares: of colours: share of the variance in each, where they were found on this scan.
        doubt: why it may lie elsewhere; "" where its offset is measured.
    """

    layer: LayerInfo
    offset: tuple[float, ...]
    values: np.ndarray
    affine: np.ndarray
    channels: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    doubt: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """All but the values, as JSON types."""
        return {
            "layer": self.layer.name,
            "stride": list(self.layer.stride),
            "offset": list(self.offset),
            "offset_doubt": self.doubt or None,
            "shape": list(self.values.shape),
            "affine": self.affine.tolist(),
            "channels": list(self.channels) or None,
            "variance_shares": [round(share, 4) for share in self.shares] or None,
        }


class FeatureMaps:
    """Layers of a network, as volumes of any number of scans.

    Args:
        encoder: on `device`.
        layers: "relu2_2,relu3_3" or a list; "relu3_3[17]" is one channel.
        device: where it runs.
        keep: "all" channels, "strongest:N" of the largest variance, or "colours": three principal components.
        components: a file of components: used where it is there, else written from the first scan.

    Raises:
        ModelError: an unknown layer, or components of another network.
        UsageError: another `keep`.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: str | Sequence[str],
        device: torch.device,
        keep: str = "all",
        components: Path | None = None,
    ) -> None:
        names = [name.strip() for name in layers.split(",")] if isinstance(layers, str) else list(layers)
        single = find_channels(names, encoder.layers())
        encoder = ChannelsEncoder(encoder, single) if single else encoder
        self.encoder, self.device = encoder, device
        known = {info.name: info for info in encoder.layers()}
        self.layers = [known[name] for name in resolve_layers(names, known)]
        self.strongest = _strongest(keep)
        self.colours = keep == "colours"
        if components is not None and not self.colours:
            raise UsageError("--components is for colours", remedy="add --keep colours")
        self.file = components
        counts = {info.name: info.channels for info in self.layers}
        there = components is not None and components.exists()
        print_ = fingerprint(encoder)
        self.components = Components.load(components, print_, counts) if there and components else None
        self.fingerprint = print_
        self.places = measure_offsets(encoder, self.layers)

    def maps(self, image: MetaTensor, progress: Progress | None = None) -> list[FeatureMap]:
        """The layers of an image.

        Args:
            image: (C, X, Y, Z) in [0, 1] on the network's grid, with its affine.
            progress: called with (pieces done, pieces in all) of each pass.

        Raises:
            ModelError: the network cannot take this image.
            OutOfMemoryError: what is kept would not fit.
        """
        plain, affine = image.as_tensor(), image.affine.detach().cpu().numpy().astype(np.float64)
        shape = tuple(int(n) for n in plain.shape[1:])
        self._check(shape)
        chosen: dict[str, list[int]] = {}
        if self.strongest or (self.colours and self.components is None):
            sums = self._sums(plain, progress)
            if self.colours:
                self.components = Components(self.fingerprint)
                for name, (count, total, square) in sums.items():
                    self.components.fit(name, count, total, square)
            else:
                chosen = {name: _largest(*parts, self.strongest) for name, parts in sums.items()}
        kept: dict[str, np.ndarray] = {}

        def take(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            if self.colours and self.components is not None:
                values = self.components.project(name, values)
            elif name in chosen:
                values = values[chosen[name]]
            if name not in kept:
                info = next(info for info in self.layers if info.name == name)
                kept[name] = np.zeros((len(values), *grid_shape(info, shape)), np.float32)
            kept[name][(slice(None), *where)] = values.numpy()

        visit_features(self.encoder, plain, self.layers, self.device, take, progress)
        made = []
        for info in self.layers:
            values, channels = kept.pop(info.name), tuple(range(info.channels))
            shares: tuple[float, ...] = ()
            if self.colours and self.components is not None:
                values, channels = self.components.colour(info.name, values), ()
                shares = tuple(self.components.shares.get(info.name, ()))
            place = self.places[info.name]
            there = layer_affine(affine, info.stride, place.offset)
            channels = tuple(chosen.get(info.name, channels))
            made.append(FeatureMap(info, place.offset, values, there, channels, shares, place.doubt))
        if self.file is not None and self.components is not None and not self.file.exists():
            self.components.save(self.file)
        return made

    def _sums(
        self, image: torch.Tensor, progress: Progress | None
    ) -> dict[str, tuple[int, torch.Tensor, torch.Tensor]]:
        """Layer -> positions, sum, and sum of squares of each channel or products of all pairs."""
        sums: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}

        def add(name: str, where: tuple[slice, ...], values: torch.Tensor) -> None:
            flat = values.flatten(1).double()
            square = flat @ flat.T if self.colours else flat.square().sum(1)
            count, total, squares = sums.get(name, (0, torch.zeros(()), torch.zeros(())))
            sums[name] = count + flat.shape[1], total + flat.sum(1), squares + square

        visit_features(self.encoder, image, self.layers, self.device, add, progress)
        return sums

    def _check(self, shape: Sequence[int]) -> None:
        size = 0
        for info in self.layers:
            count = COLOURS if self.colours else min(self.strongest or info.channels, info.channels)
            size += 4 * count * math.prod(grid_shape(info, shape))
        if size > free_bytes(torch.device("cpu")) // 2:
            raise OutOfMemoryError(
                f"these features take {readable(size)} of memory",
                remedy="name fewer or deeper layers, or keep less: --keep strongest:8 or --keep colours",
            )


def write_features(
    made: Sequence[FeatureMap], output: Path, facts: dict[str, Any], *, overwrite: bool = False
) -> list[Path]:
    """Write the maps of a scan, whole or not at all.

    Args:
        made: as `FeatureMaps.maps` gives them.
        output: for one layer a .nii, .nii.gz or .nrrd file; else a folder that gets one NIfTI file a layer,
            and a record of strides, offsets and channels (features.json).
        facts: what the record says besides.
        overwrite: replace a file that is there.

    Returns:
        The files, one a layer.

    Raises:
        OutputError: it exists, or cannot be written.
        UsageError: one file for several layers.
    """
    single = next((ending for ending in FORMATS if output.name.lower().endswith(ending)), None)
    if single is not None and len(made) > 1:
        raise UsageError(f"one file cannot hold {len(made)} layers", path=output, remedy="name a folder")
    check_space(output, sum(each.values.nbytes for each in made))
    if single is not None:
        with publish(output, overwrite) as part:
            named = part.with_name(f"new{single}")
            write_map(named, made[0].values, made[0].affine, _words(made[0], facts))
            named.rename(part)
        return [output]
    with publish(output, overwrite) as folder:
        folder.mkdir()
        names = [f"{safe_name(each.layer.name)}.nii.gz" for each in made]
        names = [name if names.count(name) == 1 else f"{k}_{name}" for k, name in enumerate(names)]
        for each, name in zip(made, names, strict=True):
            write_map(folder / name, each.values, each.affine, _words(each, facts))
        layers = [each.record | {"file": name} for each, name in zip(made, names, strict=True)]
        text = json.dumps({**facts, "layers": layers}, indent=1) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8")
    return [output / name for name in names]


def _words(each: FeatureMap, facts: dict[str, Any]) -> str:
    return f"{each.layer.name} of {facts.get('network', 'a network')}"


def _strongest(keep: str) -> int:
    """The number in "strongest:N"; 0 where all channels or colours are asked for.

    Raises:
        UsageError: something else.
    """
    word, _, number = keep.partition(":")
    if keep in ("all", "colours"):
        return 0
    if word == "strongest" and number.isdecimal() and int(number) > 0:
        return int(number)
    raise UsageError(f"cannot keep '{keep}'", remedy=f"keep {KEEP}")


def _largest(count: int, total: torch.Tensor, square: torch.Tensor, most: int) -> list[int]:
    """The channels of the largest variance, largest first."""
    variance = square / count - (total / count).square()
    order: list[int] = variance.argsort(descending=True, stable=True)[:most].tolist()
    return order
