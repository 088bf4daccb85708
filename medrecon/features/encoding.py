"""From a scan to a feature file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medrecon import __version__
from medrecon.compute.devices import pick_device
from medrecon.contract import LayerInfo, Progress
from medrecon.errors import ModelError, UsageError, near
from medrecon.features.container import seal
from medrecon.features.cropping import Block, count_values, layer_facts, stored_bytes
from medrecon.features.destinations import check_space
from medrecon.features.file import FeatureFile, create
from medrecon.features.metadata import DTYPES, FeatureFacts, LayerFacts
from medrecon.features.model import Model, open_encoder
from medrecon.features.restore import traces
from medrecon.features.rounding_loss import rounded_layer, with_cost
from medrecon.features.source import source_facts
from medrecon.features.store import flush, store
from medrecon.features.tiles import encode_image
from medrecon.io import Scan, publish
from medrecon.io.notices import listening
from medrecon.reconstructor import INPUT, parse_layers


@dataclass(frozen=True)
class Encoded:
    """What became of one scan.

    Attributes:
        path: the feature file.
        scan: the source.
        facts: what the file says of itself, the loss of its type included.
        size: of the file, in bytes.
        seconds: wall time from file to file; `network_seconds` is the encoder's part.
        notes: what was noticed and must be said, one line each.
    """

    path: Path
    scan: Scan
    facts: FeatureFacts
    size: int
    seconds: float
    network_seconds: float
    notes: tuple[str, ...] = ()


class FeatureEncoder:
    """Writes features of scans: a bundle's network and preprocessing, built once for all of them.

    Args:
        model: as `open_encoder` gives it.
        layers: the layers to keep: "level4", "level3,level4" or a sequence; None for the bundle's default.
        dtype: type of the stored numbers: "float32" (exact), "float16" or "int8" (a scale for each channel).
        measure: decode what float16 and int8 leave, to say what they cost the image.

    Raises:
        ModelError: a layer is unknown.
        UsageError: the type is.
    """

    def __init__(
        self,
        model: Model,
        layers: str | Sequence[str] | None = None,
        dtype: str = "float32",
        measure: bool = True,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"no features of type '{dtype}'", remedy=f"choose {', '.join(DTYPES)}")
        self.model, self.dtype, self.measure = model, dtype, measure
        self.layers = _chosen(model, layers)
        self._preprocessing = model.bundle.build("preprocessing")

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path = "volume_autoencoder",
        layers: str | Sequence[str] | None = None,
        dtype: str = "float32",
        *,
        device: str = "auto",
        encoder_weights: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        measure: bool = True,
    ) -> FeatureEncoder:
        """Open a bundle for encoding; arguments as `encode`, and `overrides` of its configuration.

        Raises:
            ModelError: the bundle, its weights or a layer cannot be used.
            UsageError: the type or the device is unknown.
        """
        model = open_encoder(bundle, pick_device(device), encoder_weights, overrides)
        return cls(model, layers, dtype, measure)

    def size(self, scan: Scan) -> int | None:
        """Bytes that the features of a scan will take (its padding apart), from its header alone.

        None where the bundle has spatial transforms (`geometry`) before the network.
        """
        if self.model.bundle.parser.get("geometry"):
            return None
        return self._size(scan.shape)

    def _size(self, shape: Sequence[int]) -> int:
        each = np.dtype(self.dtype).itemsize
        return sum(stored_bytes(layer, shape, each) for layer in self.layers)

    @property
    def _direct(self) -> bool:
        """Whether values are written as they are computed; else all of them are needed first, as float32."""
        return self.dtype == "float32" and not any(layer.sparse for layer in self.layers)

    def _check_space(self, target: Path, shape: Sequence[int]) -> None:
        working = 0 if self._direct else sum(4 * count_values(layer, shape) for layer in self.layers)
        check_space(target, self._size(shape) + working)

    def run(
        self, scan: Scan, target: str | Path, *, overwrite: bool = False, progress: Progress | None = None
    ) -> Encoded:
        """Encode one scan and write its features, whole or not at all.

        Memory holds the scan and one piece of its features, whatever its size; float16, int8 and layers that
        leave channels empty need the features as float32 on the disk for as long as it takes.

        Args:
            scan: as `medrecon.io.find_scans` gives it.
            target: the file.
            overwrite: replace a file that is there.
            progress: called with (pieces done, pieces in all).

        Raises:
            ScanError: the scan turns out to be unreadable.
            OutputError: the file exists, or the disk cannot hold it.
            OutOfMemoryError: a layer sees the whole image, and memory cannot hold that.
            ModelError: the network cannot take this scan.
        """
        start = time.perf_counter()
        target = Path(target)
        if self.size(scan) is not None:
            self._check_space(target, scan.shape)
        with listening() as heard:
            image: MetaTensor = self._preprocessing({"image": scan})["image"]
        trace = traces(image)
        tensors = trace.pop("tensors")
        plain = image.as_tensor()[0]
        self._check_space(target, plain.shape)
        spent = 0.0
        with publish(target, overwrite) as part:
            whole = part if self._direct else part.with_name("float32")
            arrays: dict[str, np.ndarray] = {}
            before = time.perf_counter()
            for blocks in encode_image(
                self.model.network, plain, self.layers, self.model.device, progress=progress
            ):
                spent += time.perf_counter() - before
                if not arrays:
                    facts = self._facts(scan, image, blocks, trace)
                    arrays = create(whole, facts, tensors)
                for name, block in blocks.items():
                    arrays[name][block.index] = block.values
                before = time.perf_counter()
            if self.dtype != "float32":
                clip = scan.units == "HU"
                facts = replace(
                    facts, dtype=self.dtype, layers=tuple(self._round(facts, arrays, plain, clip))
                )
            if not self._direct:
                sparse = {layer.name for layer in self.layers if layer.sparse}
                facts = store(part, facts, arrays, sparse, tensors)
                arrays.clear()
                whole.unlink()
            flush(arrays)
            arrays.clear()
            seal(part)
            FeatureFile(part).close()  # it must pass the check that every reader makes
            size = part.stat().st_size
        notes = tuple(dict.fromkeys(heard))
        return Encoded(target, scan, facts, size, time.perf_counter() - start, spent, notes)

    def _facts(
        self, scan: Scan, image: MetaTensor, blocks: Mapping[str, Block], trace: Mapping[str, Any]
    ) -> FeatureFacts:
        x, y, z = (int(n) for n in image.shape[1:])
        layers = [layer_facts(layer, blocks[layer.name], z) for layer in self.layers]
        return FeatureFacts(
            model=self.model.name,
            model_version=self.model.bundle.version,
            weights_sha256=self.model.weights_sha256,
            encoder_fingerprint=self.model.fingerprint,
            dtype="float32",
            layers=tuple(layers),
            shape=scan.shape,
            affine=np.asarray(scan.affine, np.float64),
            modality=scan.modality,
            units=scan.units,
            source=source_facts(scan),
            image_shape=(x, y, z),
            image_affine=image.affine.detach().cpu().numpy().astype(np.float64),
            version=__version__,
            **trace,
        )

    def _round(
        self, facts: FeatureFacts, arrays: Mapping[str, np.ndarray], image: torch.Tensor, clip: bool
    ) -> list[LayerFacts]:
        found = []
        for layer in facts.layers:
            values = arrays[layer.name]
            rounded = rounded_layer(layer, values, self.dtype)
            if self.measure:
                rounded = with_cost(rounded, values, self.dtype, self.model, image, clip)
            found.append(rounded)
        return found


def encode(
    scan: Scan,
    target: str | Path,
    *,
    layers: str | Sequence[str] | None = None,
    bundle: str | Path = "volume_autoencoder",
    dtype: str = "float32",
    device: str = "auto",
    encoder_weights: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Write the features of a scan as safetensors. For several scans make one `FeatureEncoder`.

    Example:
        >>> scan = medrecon.io.find_one("CT_SERIES")
        >>> encode(scan, "ct.safetensors", layers="level4", dtype="int8").facts.layers[0].cost

    Args:
        scan: as `medrecon.io.find_one` gives it.
        target: the file, `.safetensors`.
        layers: "level4", "level3,level4" or a sequence of names; None for the bundle's default.
        bundle: name or folder.
        dtype: "float32", "float16" or "int8".
        device: "auto", "cpu", "cuda" or "cuda:N".
        encoder_weights: for bundles over frozen encoders: the file of the encoder's weights.
        overwrite: replace a file that is there.
        progress: called with (pieces done, pieces in all).

    Raises:
        ScanError: the scan is unreadable.
        ModelError: the bundle, its weights or a layer cannot be used.
        OutputError: the file cannot be written.
        UsageError: the type or the device is unknown.
    """
    encoder = FeatureEncoder.from_bundle(
        bundle, layers, dtype, device=device, encoder_weights=encoder_weights
    )
    return encoder.run(scan, target, overwrite=overwrite, progress=progress)


def _chosen(model: Model, layers: str | Sequence[str] | None) -> list[LayerInfo]:
    """The layers asked for, shallow to deep: "level3,level4" and "level3+level4" are the same two."""
    if layers is None:
        layers = model.bundle.parser.get("layers", model.network.default)
    asked: list[str] = layers.split(",") if isinstance(layers, str) else list(layers)
    names = [name for item in asked for name in parse_layers(item)]
    for name in names:
        if name == INPUT:
            raise ModelError("'input' is the image itself, not a layer", remedy="name layers of the network")
        if name not in model.layers:
            raise ModelError(
                f"no layer '{name}'" + near(name, model.layers),
                path=model.bundle.root,
                remedy=f"use {', '.join(model.layers)}",
            )
    return [layer for layer in model.layers.values() if layer.name in names]
