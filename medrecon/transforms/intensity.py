"""The invertible map between a scanner's units and [0, 1]."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, convert_to_tensor

from medrecon.intensity_range import HU_WINDOW, PERCENTILES, intensity_range
from medrecon.transforms.padding import pack_below, restore_below

_NARROW = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.float16, torch.bfloat16)


class ScanIntensity(InvertibleTransform):
    """Map an image from its stored units to about [0, 1], and back.

    The map is linear and does not clip: what lies above the range goes above 1 and comes back. One exception:
    HU below the window (padding such as -2048 or -3024 outside the field of view, which is no density) enter
    as the window's low end; where they were and what they were is kept in the transform's trace, compressed,
    and the inverse puts it back exactly, in each channel of the result.

    Channels that are scans of their own (`meta["channel_units"]`, as `ScanReader` reads scans beside one
    another) are mapped each by itself; the inverse is that of the first.

    Integers of up to 16 bits and float32 become float32; wider ones float64, so that each integer below 2**50
    in size comes back as itself after rounding. The input is never changed; the memory taken is the result's.

    Args:
        window: for HU: the values that become 0 and 1.
        percentiles: for other units: the percentiles that become 0 and 1, see `intensity_range`.
        units: overrules the image's own `meta["units"]`, for files that cannot say (a CT in a NIfTI file).
            Without either, a CT by `meta["Modality"]` (MONAI Deploy's) is in HU.
        in_place: let `inverse` overwrite what it is given, where that has the right type: a volume less.
    """

    def __init__(
        self,
        window: tuple[float, float] = HU_WINDOW,
        percentiles: tuple[float, float] = PERCENTILES,
        units: str | None = None,
        in_place: bool = False,
    ) -> None:
        if not window[0] < window[1]:
            raise ValueError(f"window {tuple(window)}: the low end must be below the high end")
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles {tuple(percentiles)}: must rise within 0 to 100")
        self.window = (float(window[0]), float(window[1]))
        self.percentiles = (float(percentiles[0]), float(percentiles[1]))
        self.units = units
        self.in_place = in_place

    def __call__(self, img: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Map an image (C, *spatial) in stored units to about [0, 1]."""
        image = convert_to_tensor(img, track_meta=get_track_meta())
        units = self.units
        if units is None:
            units = _units(image.meta) if isinstance(image, MetaTensor) else ""
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        beside = image.meta.get("channel_units") if isinstance(image, MetaTensor) else None
        others = [] if beside is None else str(beside).split("\n")[1:]
        first = plain[:1] if others else plain
        narrow = plain.dtype in _NARROW or plain.dtype == torch.float32
        scaled = plain.to(torch.float32 if narrow else torch.float64, copy=True)
        low, high, below = self._map(scaled[:1] if others else scaled, first, units)
        trace: dict[str, Any] = {"low": low, "high": high, "wide": not narrow}
        if below and isinstance(image, MetaTensor) and self.tracing:
            trace["below"] = pack_below(first, low)
        for channel, own in enumerate(others, start=1):
            part = slice(channel, channel + 1)
            self._map(scaled[part], plain[part], self.units or own)
        if not isinstance(image, MetaTensor):
            return scaled
        out = MetaTensor(scaled).copy_meta_from(image)
        self.push_transform(out, extra_info=trace)
        return out

    def _map(self, scaled: torch.Tensor, plain: torch.Tensor, units: str) -> tuple[float, float, bool]:
        """Map a copy of `plain` where it is; what became 0 and 1, and whether any was below the window."""
        low, high = intensity_range(plain.detach().cpu().numpy(), units, self.window, self.percentiles)
        below = units == "HU" and bool(scaled.numel()) and float(scaled.amin()) < low
        if below:
            scaled.clamp_(min=low)
        scaled.sub_(low).div_(high - low)
        return low, high, below

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Map (R, *spatial) back to stored units: float32, or float64 for sources that need it.

        Args:
            data: a MetaTensor that carries the trace of the forward call; R may differ from the source's
                number of channels when that was one.

        Raises:
            RuntimeError: the trace is missing, or of another transform.
            ValueError: the grid is not the source's.
        """
        trace = self.pop_transform(data)[TraceKeys.EXTRA_INFO]
        low, high = float(trace["low"]), float(trace["high"])
        plain = data.as_tensor() if isinstance(data, MetaTensor) else data
        wide = bool(trace["wide"]) or plain.dtype == torch.float64
        dtype = torch.float64 if wide else torch.float32
        back = plain.to(dtype, copy=not self.in_place).contiguous()
        back.mul_(high - low).add_(low)
        restore_below(back, trace.get("below", {}))
        return MetaTensor(back).copy_meta_from(data) if isinstance(data, MetaTensor) else back


def _units(meta: Mapping[Any, Any]) -> str:
    """As `ScanReader` says; HU for a CT of MONAI Deploy's, which does not say it."""
    return str(meta.get("units", "HU" if meta.get("Modality") == "CT" else ""))


class ScanIntensityd(MapTransform, InvertibleTransform):
    """Dictionary version of `ScanIntensity`, for `Compose` and `Invertd`.

    Args:
        keys: the images to map.
        window: for HU: the values that become 0 and 1.
        percentiles: for other units: the percentiles that become 0 and 1.
        units: overrules the images' own `meta["units"]`.
        allow_missing_keys: leave missing keys alone instead of raising KeyError.
        in_place: see `ScanIntensity`.
    """

    backend = ScanIntensity.backend

    def __init__(
        self,
        keys: KeysCollection,
        window: tuple[float, float] = HU_WINDOW,
        percentiles: tuple[float, float] = PERCENTILES,
        units: str | None = None,
        allow_missing_keys: bool = False,
        in_place: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = ScanIntensity(window, percentiles, units, in_place)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Map the images, each (C, *spatial), to about [0, 1]."""
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            mapped[key] = self.transform(mapped[key])
        return mapped

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Map the images back to stored units."""
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            mapped[key] = self.transform.inverse(mapped[key])
        return mapped
