"""Scans as a network wants them: on its grid, in [0, 1], several as channels; and a result's way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage

from medrecon.contract import Encoder
from medrecon.errors import ModelError
from medrecon.io import Scan, ScanError, ScanReader
from medrecon.io.choices import check_one_grid, check_units
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
    check_scans(encoder, scans)
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


def check_scans(encoder: Encoder, scans: Sequence[Scan]) -> None:
    """Refuse scans that an encoder does not take as its channels.

    Raises:
        ScanError: one lies on another grid than the first, or has no HU where the encoder takes nothing else.
    """
    check_units(encoder.units, *scans)
    for scan in scans:
        check_one_grid(scan, scans[0])


def check_scan(encoder: Encoder, scan: Scan) -> None:
    """Refuse a scan, or those beside it, that an encoder does not take.

    Raises:
        ScanError: it takes HU, and one of them has none; or it needs scans as channels that are not there.
        ModelError: it takes one scan, and there are several.
    """
    check_units(encoder.units, scan, *scan.beside)
    names = encoder.channel_names
    if encoder.channels_needed and len(scan.beside) != len(names) - 1:
        raise ScanError(
            f"the network is given a scan for each of {', '.join(names)}",
            path=scan.path,
            remedy="name them with --encoder-channels",
        )
    if scan.beside and not encoder.channels_needed:
        raise ModelError(
            "the decoders are for one scan, given to each channel",
            path=scan.path,
            remedy="leave --encoder-channels out, or make decoders for them: it is an option of train too",
        )


def network_notes(encoder: Encoder, scans: int = 1) -> list[str]:
    """What a user must know of how a scan, or several as channels, go into the network, one line each."""
    steps = [type(step).__name__ for step in encoder.geometry]
    grid = "the network takes the scan through {}; the result is brought back to the scan's own grid"
    notes = [*encoder.notes, *([grid.format(", ".join(steps))] if steps else [])]
    if scans == 1 and len(encoder.channel_names) > 1:
        names = ", ".join(encoder.channel_names)
        notes.append(f"the one scan is given to each channel of the network ({names}): --encoder-channels")
    return notes
