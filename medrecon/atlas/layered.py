"""A bundle's network of which each layer is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.bundle.results import parse_results
from medrecon.contract import LayerInfo
from medrecon.errors import UsageError
from medrecon.inference.parts import open_parts
from medrecon.io.scan import Scan
from medrecon.reconstructor import INPUT, parse_layers


class LayeredNetwork:
    """A bundle opened for scans that are known already; nothing is written.

    Args:
        bundle: name of a bundle that comes with medrecon, or a bundle's folder.
        scans: what will be run.
        output: a path that does not exist: only its name is used, by the bundle's own plan.
        layers: results, as text or list; None takes each of the network's layers.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overrides: further ids of the bundle's configuration, such as encoder_weights, and their values.

    Attributes:
        results: the names of what is looked at: a layer, or several joined by a plus.
        infos: layer -> what the network declares of it.
        asked: those of them that the results are made of, shallow to deep.

    Raises:
        ModelError: the bundle, its weights or a layer cannot be used.
        UsageError: the options do not make sense.
    """

    beside = "the scan itself stands beside the layers"
    """What is said to who asks for it as one."""

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
            raise UsageError("'input' is no layer", remedy=f"leave it out: {self.beside}")
        self.parts = parts = open_parts(
            bundle,
            scans=scans,
            output=output,
            layers=layers,
            each_layer=True,
            device=device,
            output_format="nifti",
            overrides=overrides,
        )
        self.bundle, self.results, self.device = parts.bundle, parts.results, parts.device
        self.network = parts.network
        self.infos: dict[str, LayerInfo] = {layer.name: layer for layer in self.network.layers()}
        wanted = {name for result in self.results for name in parse_layers(result)}
        self.asked = [info for name, info in self.infos.items() if name in wanted]

    @property
    def facts(self) -> dict[str, str]:
        """Model, version, hash of the weights, device."""
        sha256 = next((d.weights_sha256 for d in self.parts.saver.derivation.values()), "")
        return {
            "model": self.bundle.name,
            "model_version": self.bundle.version,
            "weights_sha256": sha256,
            "device": str(self.device),
        }

    def rate(self, result: str) -> float:
        """Values that a result keeps for each voxel."""
        return sum(self.infos[layer].values_per_voxel for layer in parse_layers(result))
