"""A bundle's preprocessing, sorted: the grid stays MONAI's, intensities become modules with gradients."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import InvertibleTransform
from torch import nn

from medrecon.encoders.adapt import Clip, Hounsfield, Rescale
from medrecon.encoders.tapped.bundle_code import build
from medrecon.encoders.tapped.intensities import INTENSITIES, inner_of
from medrecon.errors import ModelError

GEOMETRY = (
    *("Orientationd", "Spacingd", "Resized", "Zoomd", "Flipd", "Rotate90d", "Transposed"),
    *("SpatialPadd", "BorderPadd", "DivisiblePadd", "ResizeWithPadOrCropd", "CenterSpatialCropd"),
    *("SpatialCropd", "CropForegroundd", "SpatialResampled"),
)
"""Transforms of the grid, kept as they are: MONAI's Invertd undoes them."""

NEUTRAL = (
    *("EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "ToDevice", "ToMetaTensor"),
    *("Identity", "SelectItems", "DeleteItems", "CopyItems", "ScanIntensity", "SqueezeDim", "Transpose"),
    *("ApplyTransformToPoints", "AsDiscrete", "DataStats", "SimulateDelay"),
)
"""Transforms that change neither grid nor values, and ours, whose result is what an encoder gets."""

_GUIDES = re.compile(r"guidance|click|prompt|label|point|VistaPreTransform", re.IGNORECASE)
"""Names of transforms that add what a user draws: channels beside the image, or nothing of it."""

_DRAWN = re.compile(r"mask|signal|guidance|click|label|point", re.IGNORECASE)
"""Names of channels that hold such things."""

_OTHERS = re.compile(r"label|mask|seg", re.IGNORECASE)
_SUM = re.compile(r"\$\s*@\w+(\s*\+\s*@\w+)*\s*")
_EIGHT_BITS = (0.0, 255.0)


class Preprocessing:
    """What of a bundle's preprocessing its network sees.

    Args:
        root: the bundle, for messages.
        modality: what its metadata says its images are.
        wanted: whether its intensity maps are used.

    Attributes:
        geometry: transforms of the grid, for the key `image`.
        channels: names of the images that are its channels.
        empty: channels that hold what a user draws, and nothing here.
        scale: values of the scan that are 0 and 1 to it, where its maps start at values of no known unit.
        notes: what must be said.
    """

    def __init__(self, root: Path, modality: str, wanted: bool = True) -> None:
        self.root = root
        self.modality = modality
        self.wanted = wanted
        self.geometry: list[Any] = []
        self.channels: tuple[str, ...] = ()
        self.empty: tuple[int, ...] = ()
        self.scale: tuple[float, float] | None = None
        self.notes: list[str] = []
        self._start: list[nn.Module] = []
        self._maps: list[nn.Module] = []
        self._absolute = False

    @classmethod
    def of(cls, parser: ConfigParser, root: Path, wanted: bool = True) -> Preprocessing:
        """The preprocessing of an inference configuration; steps that do not concern the image are not built.

        Raises:
            ModelError: a step changes the image, and can neither be kept nor be translated.
        """
        made = cls(root, _modality(parser), wanted)
        made.channels = _channel_names(parser)
        places = list(_steps(parser, "preprocessing")) if "preprocessing" in parser else []
        loaded = _loaded(parser, root, places)
        images = loaded if loaded and "image" not in loaded else ("image",)
        if len(images) > 1:
            made.channels = images
        guides = [name for name in (_name(parser, place) for place in places) if _GUIDES.search(name)]
        for place in places:
            made._sort(parser, place, {*images, "image"})
        if guides:
            made._leave_guides_out(guides, parser)
        return made

    def intensity(self) -> nn.Module | None:
        """The intensity maps as one module, from [0, 1]."""
        if not self._maps:
            return None
        start = [Hounsfield()] if self.units == "HU" else self._start
        return nn.Sequential(*start, *self._maps)

    @property
    def units(self) -> str:
        """HU where its intensity maps start at HU."""
        return "HU" if self._maps and (self._absolute or self.modality == "CT") else ""

    def _sort(self, parser: ConfigParser, place: str, images: set[str]) -> None:
        name = _name(parser, place)
        plain = name.removesuffix("d") if name.endswith("d") else name
        if plain.startswith(("Load", "Rand", "Concat")) or plain in NEUTRAL or _GUIDES.search(name):
            return
        part = parser[place]
        if isinstance(part, Mapping) and "keys" in part:
            keys = build(parser, f"{place}#keys", self.root)
            if not images.intersection((keys,) if isinstance(keys, str) else map(str, keys)):
                return
        step = build(parser, place, self.root) if name in GEOMETRY or plain in INTENSITIES else part
        if step is None:
            return  # disabled
        if name in GEOMETRY and isinstance(step, InvertibleTransform):
            self._keep(name, step)
        elif plain in INTENSITIES:
            self._map(plain, step)
        elif self.wanted:
            raise ModelError(
                f"its preprocessing has {name}, which cannot be honoured",
                path=self.root,
                remedy="say what the network expects of intensities, and it is left out: "
                '--encoder-arguments \'{"_intensity_": "zscore"}\' (or minmax, none, a range)',
            )
        else:
            self.notes.append(f"{name} of the bundle's preprocessing is left out")

    def _keep(self, name: str, step: Any) -> None:
        if self._maps:
            self.notes.append(f"{name} runs before the intensity maps here, after them in the bundle")
        step.keys = ("image",)
        self.geometry.append(step)

    def _map(self, name: str, step: Any) -> None:
        inner = inner_of(step)
        first = not any(not isinstance(module, Clip) for module in self._maps)
        if first and name in ("ScaleIntensityRange", "ThresholdIntensity") and not self._absolute:
            low, high = (inner.a_min, inner.a_max) if name == "ScaleIntensityRange" else (0.0, 1.0)
            self._absolute_values(name, float(low), float(high))
        self._maps.append(INTENSITIES[name](inner))

    def _absolute_values(self, name: str, low: float, high: float) -> None:
        """HU are known in [0, 1]; 8-bit pictures are all of it; other values are taken as stored."""
        if self.modality == "CT" or (not self.modality and low < 0):
            self._absolute = True
        elif (low, high) == _EIGHT_BITS:
            self._start = [Rescale((0.0, 1.0), _EIGHT_BITS)]
            self.notes.append("the network takes 8-bit pictures: the scan's own range stands for 0 to 255")
        elif not self._start:
            self.scale = (low, high)
            self._start = [Rescale((0.0, 1.0), (low, high))]
            self.notes.append(f"its {name} takes the scan's values as they are stored, {low:g} to {high:g}")

    def _leave_guides_out(self, guides: list[str], parser: ConfigParser) -> None:
        key = f"{ConfigParser.meta_key}#network_data_format#inputs#image#num_channels"
        try:
            total = int(parser.get(key, 0) or 0)
        except (KeyError, TypeError, ValueError):
            total = 0
        named = len(self.channels) or 1
        self.empty = tuple(k for k, name in enumerate(self.channels) if _DRAWN.search(name))
        self.empty += tuple(range(named, total))
        where = "; the channels for it are empty" if self.empty else ""
        self.notes.append(f"what a user draws is left out ({', '.join(dict.fromkeys(guides))}){where}")
        if total > named:
            self.channels = ()
        self.channels = tuple(name for k, name in enumerate(self.channels) if k not in self.empty)


def _steps(parser: ConfigParser, place: str) -> Iterator[str]:
    """The ids of the transforms within a Compose, a list, or a sum of such; nothing of it is built."""
    part = parser[place]
    if isinstance(part, str):
        if part.startswith("@") and part[1:] in parser:
            yield from _steps(parser, part[1:])
        elif _SUM.fullmatch(part):
            for name in re.findall(r"@(\w+)", part):
                yield from _steps(parser, name)
        elif part.startswith("$"):
            raise ModelError(
                f"its {place} is a program ({part[:60]})", remedy="write its transforms as a list"
            )
    elif isinstance(part, list):
        for number in range(len(part)):
            yield from _steps(parser, f"{place}#{number}")
    elif isinstance(part, Mapping) and "transforms" in part:
        yield from _steps(parser, f"{place}#transforms")
    elif isinstance(part, Mapping) and "_target_" in part and part.get("_disabled_") is not True:
        yield place


def _name(parser: ConfigParser, place: str) -> str:
    return str(parser[place]["_target_"]).rpartition(".")[2]


def _loaded(parser: ConfigParser, root: Path, places: list[str]) -> tuple[str, ...]:
    """The images that are loaded from files, without labels."""
    for place in places:
        if _name(parser, place).startswith("Load") and "keys" in parser[place]:
            keys = build(parser, f"{place}#keys", root)
            names = (keys,) if isinstance(keys, str) else tuple(map(str, keys))
            return tuple(name for name in names if not _OTHERS.search(name))
    return ()


def _modality(parser: ConfigParser) -> str:
    try:
        said = str(parser.get(f"{ConfigParser.meta_key}#network_data_format#inputs#image#modality", "") or "")
    except (KeyError, TypeError):
        return ""
    said = said.strip().upper()
    return {"MRI": "MR", "NONE": ""}.get(said, said)


def _channel_names(parser: ConfigParser) -> tuple[str, ...]:
    """What metadata.json calls the channels of the image, in their order."""
    try:
        said = parser.get(f"{ConfigParser.meta_key}#network_data_format#inputs#image#channel_def", {})
        numbered = {int(key): str(name).strip() for key, name in dict(said).items()}
    except (KeyError, TypeError, ValueError):
        return ()
    names = tuple(numbered[number] for number in sorted(numbered))
    return names if all(names) and len(set(map(str.casefold, names))) == len(names) > 1 else ()
