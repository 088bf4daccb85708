"""What a feature file says of itself: its metadata, as safetensors keeps it (text for text)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import ModelError
from medrecon.features.container import OPEN, SUM
from medrecon.io.geometry import check_affine, straighten
from medrecon.io.scan import ScanError

SCHEMA = "medrecon.features/3"
DTYPES = ("float32", "float16", "int8")
COMPUTED = ("float32", "bfloat16", "float16")
MASK, VALUES = "padding:mask", "padding:values"
"""Names of the tensors that hold the padding; no layer has a colon in its name."""

_MOST_AXIS = 1 << 20
_MOST_CHANNELS = 1 << 16  # of a packed layer, whose empty channels take no room in the file


@dataclass(frozen=True)
class LayerFacts:
    """What a feature file says of one of its layers.

    Attributes:
        name: of the layer, and of its tensor.
        shape: of its tensor: (C, X, Y, Z) from 3D networks, (N, C, X, Y) slice by slice from 2D ones; the
            layer's all the same where it is packed.
        stride: voxels per position, along each axis: position p covers voxels p * stride to
            (p + 1) * stride - 1.
        receptive_field: voxels that a value sees, along each axis; None: all, or unknown.
        values_per_voxel: feature values for each voxel; of a packed layer those stored, and a number for each
            position that says which they are.
        computed_in: the floating-point type in which the network gave them; `channels_last`, whether it laid
            them out so in memory. Both are given to the decoder again, whose last bits depend on them.
        scale: for each channel: value = stored number * scale; None: 1.
        relative_error: of the values stored: |stored - computed| / |computed|, Euclidean.
        psnr: of the image decoded from the values stored against the source, over the intensity range, in dB;
            `psnr_float32` from the values as they were computed. None: not measured, or nothing lost.
        psnr_voxels: on how many voxels, from the middle of the scan, that was measured.
        kept: how many values are stored where the layer is packed (`medrecon.features.packed`); else None.
        sets: how many sets of channels its positions keep.
    """

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    receptive_field: tuple[int, ...] | None
    values_per_voxel: float
    computed_in: str = "float32"
    channels_last: bool = False
    scale: tuple[float, ...] | None = None
    relative_error: float = 0.0
    psnr: float | None = None
    psnr_float32: float | None = None
    psnr_voxels: int = 0
    kept: int | None = None
    sets: int = 0

    @property
    def channel_axis(self) -> int:
        """Where the channels are in `shape`."""
        return 0 if len(self.stride) == 3 else 1

    @property
    def channels(self) -> int:
        """Number of feature maps."""
        return self.shape[self.channel_axis]

    @property
    def positions(self) -> tuple[int, ...]:
        """`shape` without the channels."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.channel_axis)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of its tensor in the file."""
        return self.shape if self.kept is None else (self.kept,)

    @property
    def cost(self) -> float | None:
        """PSNR in dB that the type of the stored numbers costs the image; None where it is not known."""
        return None if self.psnr is None or self.psnr_float32 is None else self.psnr_float32 - self.psnr


@dataclass(frozen=True)
class FeatureFacts:
    """All that a feature file says of itself. It names no patient, no file, no folder and no DICOM UID.

    Attributes:
        model: name of the bundle that encoded; `model_version` as its metadata says.
        weights_sha256: hash of the file of the bundle's weights, "" where there is none.
        encoder_fingerprint: of the encoder's weights (`medrecon.encoders.fingerprint`).
        dtype: type of the stored numbers: "float32", "float16" or "int8".
        layers: shallow to deep.
        shape: columns, rows, slices of the source.
        affine: (4, 4) float64, voxel index of the source -> RAS mm.
        modality: DICOM's, "" where unknown.
        units: "HU", or DICOM's Units, or "".
        source: `key` as `medrecon scans` shows it; `series_sha256`, SHA-256 of the SeriesInstanceUID (it
            proves which series it was to those who have it, and tells nothing to others); `format`; `volume`;
            `options`, how it was read; `stored`, the source's data type and scaling, for NIfTI.
        intensity: `low` and `high`, the stored values that are the network's 0 and 1; `wide`, whether
            they need float64.
        padding: `shape` and `dtype` of values below the window, whose places and values are two further
            tensors; empty where there are none.
        image_shape: of the volume that the network saw; the source's, unless `geometry` changed it.
        image_affine: its voxel index -> RAS mm.
        geometry: MONAI's record of spatial transforms applied before the network, first to last.
        version: of medrecon.
    """

    model: str
    model_version: str
    weights_sha256: str
    encoder_fingerprint: str
    dtype: str
    layers: tuple[LayerFacts, ...]
    shape: tuple[int, int, int]
    affine: np.ndarray = field(repr=False)
    modality: str
    units: str
    source: dict[str, Any]
    intensity: dict[str, Any]
    image_shape: tuple[int, int, int]
    image_affine: np.ndarray = field(repr=False)
    padding: dict[str, Any] = field(default_factory=dict)
    geometry: tuple[dict[str, Any], ...] = ()
    version: str = ""

    def layer(self, name: str) -> LayerFacts:
        """The facts of one layer.

        Raises:
            KeyError: it is not in the file.
        """
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def names(self) -> list[str]:
        """The layers in the file, shallow to deep."""
        return [layer.name for layer in self.layers]


def to_metadata(facts: FeatureFacts) -> dict[str, str]:
    """The facts as safetensors' metadata: plain text, or JSON for what has parts (floats to the last bit)."""
    values: dict[str, Any] = vars(facts) | {"layers": [asdict(layer) for layer in facts.layers]}
    return {
        "schema": SCHEMA,
        SUM: OPEN,
        "medrecon": facts.version,
        **{name: values[name] for name in _TEXTS},
        **{name: json.dumps(values[name].tolist()) for name in _GRIDS},
        **{name: json.dumps(values[name], allow_nan=name == "geometry") for name in _PARTS},
    }


def from_metadata(metadata: Mapping[str, str] | None, path: Path) -> FeatureFacts:
    """The inverse of `to_metadata`; nothing in a file is believed before it is checked.

    Raises:
        ModelError: the file is not ours, of another version, or contradicts itself.
    """
    said = dict(metadata or {})
    schema = said.get("schema", "")
    if schema != SCHEMA:
        ours = schema.split("/")[0] == SCHEMA.split("/")[0]
        raise ModelError(
            f"features of another format ({schema}), this medrecon reads {SCHEMA}"
            if ours
            else "holds no features written by medrecon",
            path=path,
            remedy="encode again, or update medrecon" if ours else "make such a file with medrecon encode",
        )
    try:
        values: dict[str, Any] = {name: said[name] for name in _TEXTS}
        values |= {name: np.array(json.loads(said[name]), np.float64) for name in _GRIDS}
        values |= {name: form(json.loads(said[name])) for name, form in _PARTS.items()}
        facts = FeatureFacts(version=said["medrecon"], **values)
        fault = _fault(facts, path)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
    if fault:
        raise ModelError(f"its metadata is broken ({fault})", path=path, remedy="get the file again")
    return facts


def _layer(item: Mapping[str, Any]) -> LayerFacts:
    tuples = {name: tuple(item[name]) for name in ("shape", "stride")}
    optional = {
        name: None if item[name] is None else tuple(item[name]) for name in ("receptive_field", "scale")
    }
    return LayerFacts(**{**item, **tuples, **optional})


def _three(values: Any) -> tuple[int, int, int]:
    x, y, z = values
    return x, y, z


_TEXTS = (
    *("model", "model_version", "weights_sha256", "encoder_fingerprint"),
    *("dtype", "modality", "units"),
)
_GRIDS = ("affine", "image_affine")
_PARTS: dict[str, Callable[[Any], Any]] = {
    "layers": lambda listed: tuple(map(_layer, listed)),
    "shape": _three,
    "source": dict,
    "intensity": dict,
    "padding": dict,
    "image_shape": _three,
    "geometry": lambda listed: tuple(map(dict, listed)),
}
"""What is stored as JSON, and what is made of that."""


def _fault(facts: FeatureFacts, path: Path) -> str:
    """What is wrong with facts that parse, or ""."""
    sizes = [*facts.shape, *facts.image_shape]
    if not all(type(n) is int and 0 < n < _MOST_AXIS for n in sizes):
        return "no volume has that shape"
    for affine in (facts.affine, facts.image_affine):
        if affine.shape != (4, 4):
            return "no grid has that affine"
        try:
            check_affine(affine, "affine", path)
            straighten(affine, facts.shape, "affine", path)
        except ScanError as error:
            return error.message
    low, high = float(facts.intensity["low"]), float(facts.intensity["high"])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return "no intensity range"
    if facts.dtype not in DTYPES or not facts.layers or len(set(facts.names)) < len(facts.layers):
        return "no layers of a known type"
    return next((fault for layer in facts.layers if (fault := _layer_fault(layer, facts))), "")


def _layer_fault(layer: LayerFacts, facts: FeatureFacts) -> str:
    """Every position must lie on the image: at least all of it covered, and not absurdly more."""
    where = f"layer {layer.name}"
    axes = len(layer.stride)
    if axes not in (2, 3) or len(layer.shape) != 4 or not isinstance(layer.name, str) or ":" in layer.name:
        return f"{where} has no known form"
    if not all(type(n) is int and n > 0 for n in (*layer.shape, *layer.stride)):
        return f"{where} has no known form"
    positions = layer.shape[1:] if axes == 3 else layer.shape[2:]
    if axes == 2 and layer.shape[0] != facts.image_shape[2]:
        return f"{where} has {layer.shape[0]} slices, the scan {facts.image_shape[2]}"
    for count, step, size in zip(positions, layer.stride, facts.image_shape, strict=False):
        if not size <= count * step < 2 * size + 1024:
            return f"{where} does not cover the scan"
    if layer.computed_in not in COMPUTED:
        return f"{where} was computed in {layer.computed_in}"
    if layer.kept is not None and not _may_be_packed(layer):
        return f"{where} keeps what it has no room for"
    scale = layer.scale
    if scale is not None and (len(scale) != layer.channels or not all(0 < s < math.inf for s in scale)):
        return f"{where} has scales that do not fit"
    return ""


def _may_be_packed(layer: LayerFacts) -> bool:
    places = math.prod(layer.positions)
    numbers = (layer.kept, layer.sets)
    return (
        all(type(n) is int for n in numbers)
        and layer.channels <= _MOST_CHANNELS
        and 0 <= (layer.kept or 0) <= places * layer.channels
        and 1 <= layer.sets <= places
    )
