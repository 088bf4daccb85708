"""Scans as a network wants them: on its grid, in [0, 1], several as channels; and a result's way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage

from medrecon.contract import Encoder
from medrecon.errors import UsageError, near
from medrecon.io import Scan, ScanError, ScanReader
from medrecon.transforms import ScanIntensity


@dataclass(frozen=True)
class Prepared:
    """Scans on the grid of an encoder, as one image.

    Attributes:
        image: (C, X, Y, Z) in [0, 1], a channel for each scan.
    """

    image: MetaTensor
    _grid: Compose
    _maps: Sequence[_Scaled]
    _least: torch.Tensor

    def restore(self, result: torch.Tensor) -> torch.Tensor:
        """A result (C, X, Y, Z) on the image's grid, brought to the grid and the units of the scans.

        What MONAI's transforms leave out of a scan comes back as the scan's least value.
        """
        parts = [each.inverse(result[k : k + 1]) for k, each in enumerate(self._maps)]
        values = torch.cat(parts).to(parts[0]) - self._least
        back: Any = self._grid.inverse({"image": MetaTensor(values).copy_meta_from(self._maps[0].source)})
        plain = back["image"]
        plain = plain.as_tensor() if isinstance(plain, MetaTensor) else plain
        return plain + self._least.to(plain)

    @property
    def moved(self) -> bool:
        """Whether the encoder's grid is another than the scans'."""
        return bool(self._grid.transforms)


class _Scaled:
    """One scan's intensities: the encoder's scale, or that of every scan."""

    def __init__(self, source: MetaTensor, scale: tuple[float, float] | None) -> None:
        self.source, self.scale = source, scale
        self._map = ScanIntensity()
        if scale is None:
            self.image: Any = self._map(source)
        else:
            low, high = scale
            wide = source.dtype in (torch.float64, torch.int32, torch.int64)
            plain = source.as_tensor().to(torch.float64 if wide else torch.float32)
            self.image = MetaTensor((plain - low) / (high - low)).copy_meta_from(source)

    def inverse(self, result: torch.Tensor) -> torch.Tensor:
        """(1, X, Y, Z) in the units of the scan."""
        plain = (result.as_tensor() if isinstance(result, MetaTensor) else result).to(self.image.dtype)
        if self.scale is not None:
            return plain * (self.scale[1] - self.scale[0]) + self.scale[0]
        back: Any = self._map.inverse(MetaTensor(plain).copy_meta_from(self.image))
        return torch.as_tensor(back.as_tensor())


def prepare(encoder: Encoder, scans: Sequence[Scan]) -> Prepared:
    """Read scans and bring them to an encoder's grid (`Encoder.geometry`) and to [0, 1].

    Args:
        encoder: says the grid, the units and the scale that it wants.
        scans: one for each of its channels, in their order; or one, which is given to each.

    Raises:
        ScanError: a scan cannot be read, lies on another grid than the first, or has other units than HU
            where the encoder takes nothing else.
    """
    for scan in scans:
        _check(encoder, scan, scans[0])
    read = LoadImage(reader=ScanReader(), dtype=None, ensure_channel_first=True, expanduser=False)
    volumes = [read(scan) for scan in scans]
    source: Any = volumes[0]
    if len(volumes) > 1:
        kind = torch.float64 if any(v.dtype in _WIDE for v in volumes) else torch.float32
        source = MetaTensor(torch.cat([v.as_tensor().to(kind) for v in volumes]))
        source = source.copy_meta_from(volumes[0])
    least = source.as_tensor().flatten(1).amin(1)[:, None, None, None].double()
    grid = Compose(list(encoder.geometry))
    if not all(type(step).__module__.startswith("monai.") for step in encoder.geometry):
        least = torch.zeros_like(least)  # it knows itself what it left out
    placed: Any = grid({"image": source})["image"]
    maps = []
    for k, scan in enumerate(scans):
        one = placed[k : k + 1] if len(scans) > 1 else placed
        one.meta["units"] = scan.units
        maps.append(_Scaled(one, encoder.scale))
    image = torch.cat([each.image.as_tensor() for each in maps])
    return Prepared(MetaTensor(image).copy_meta_from(placed), grid, maps, least)


_WIDE = (torch.float64, torch.int32, torch.int64, torch.uint32)


def check_units(encoder: Encoder, scan: Scan) -> None:
    """Refuse a scan whose units an encoder does not take.

    Raises:
        ScanError: it takes HU, and the scan has none.
    """
    if encoder.units == "HU" and scan.units != "HU":
        said = scan.modality or "of an unknown modality"
        raise ScanError(
            f"the network takes CT in HU, and this scan is {said}",
            path=scan.path,
            remedy="give a CT (--hu where the file cannot say that its values are HU), or another "
            "intensity map (_intensity_)",
        )


def _check(encoder: Encoder, scan: Scan, first: Scan) -> None:
    check_units(encoder, scan)
    if scan.shape != first.shape or not np.allclose(scan.affine, first.affine, atol=1e-2):
        raise ScanError(
            f"it lies on another grid than {first.path.name}: channels are images of one grid",
            path=scan.path,
            remedy="resample it to that grid first",
        )


def in_order(encoder: Encoder, given: Mapping[str, Scan]) -> tuple[Scan, ...]:
    """Scans in the order of an encoder's channels.

    Args:
        encoder: whose `channel_names` are told apart by name, in any case.
        given: name -> scan.

    Raises:
        UsageError: a name that it does not have, a channel that is missing, or a scan given for two.
    """
    twice = [s for k, s in enumerate(given.values()) if s in list(given.values())[:k]]
    if twice:
        raise UsageError(f"{twice[0].path} is given for two channels", remedy="name each scan once")
    names = encoder.channel_names
    if not names:
        raise UsageError("the network takes one scan", remedy="leave --encoder-channels out")
    by_name = {name.casefold(): scan for name, scan in given.items()}
    known = [name.casefold() for name in names]
    for name in by_name:
        if name not in known:
            raise UsageError(
                f"the network has no channel '{name}'" + near(name, known),
                remedy=f"its channels are {', '.join(names)}",
            )
    for name in names:
        if name.casefold() not in by_name:
            raise UsageError(
                f"the channel '{name}' is missing",
                remedy=f"name a scan for each of {', '.join(names)}",
            )
    return tuple(by_name[name] for name in known)
