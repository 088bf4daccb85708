"""What is asked of every study alike, checked once before any of them is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrecon.io.files.outputs import hash_file


@dataclass(frozen=True)
class Settings:
    """The options of `medrecon reconstruct`, as they go to every worker.

    Attributes:
        bundle: name of a bundle that comes with medrecon, or a bundle's folder.
        layers: results as the user wrote them; None takes those of the bundle.
        encoder_weights: of somebody else's network, where the bundle needs them.
        device: "auto", "cpu", "cuda" or "cuda:N".
        output_format: "same", "dicom" or "nifti".
        hu: values of NIfTI, NRRD and MHA are HU.
        all_series: take every series of a folder in which several lie side by side.
        names_from_source: outputs within a study are named after the source's description.
        options: of `medrecon.io.find_scans`.
    """

    bundle: str = "volume_autoencoder"
    layers: tuple[str, ...] | str | None = None
    encoder_weights: Path | None = None
    device: str = "auto"
    output_format: str = "same"
    hu: bool = False
    all_series: bool = False
    names_from_source: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def overrides(self) -> dict[str, Any]:
        """What the bundle's configuration must be told."""
        return {} if self.encoder_weights is None else {"encoder_weights": self.encoder_weights}


def examine(settings: Settings) -> Settings:
    """Refuse a model, layers or weights that cannot be used, and say which results and folder are meant.

    Returns:
        The settings with the results spelled out and paths that hold on every machine of a cluster.

    Raises:
        ModelError: the bundle is missing or broken, its weights do not fit, or a layer is unknown.
        UsageError: a result is asked for twice.
    """
    from medrecon.bundle.config import Bundle, bundle_names, layers_of
    from medrecon.bundle.results import check_results, parse_results

    weights = settings.encoder_weights and settings.encoder_weights.expanduser().resolve()
    settings = replace(settings, encoder_weights=weights)
    opened = Bundle.open(settings.bundle)
    asked = opened.parser["layers"] if settings.layers is None else settings.layers
    results = parse_results(asked)
    check_results(results, [layer.name for layer in layers_of(opened)], where=opened.root)
    Bundle.open(opened.root, {"device": "cpu", **settings.overrides}).build("network")
    shipped = settings.bundle in bundle_names() and Path(settings.bundle).name == settings.bundle
    bundle = settings.bundle if shipped else str(opened.root)
    return replace(settings, bundle=bundle, layers=tuple(results))


def fingerprint(settings: Settings) -> str:
    """What decides the results: options and model, not the device nor how many workers there are."""
    from medrecon.bundle.config import find_bundle

    root = find_bundle(settings.bundle)
    files = sorted(p for part in ("configs", "models") for p in (root / part).rglob("*") if p.is_file())
    content = {
        "layers": settings.layers,
        "format": settings.output_format,
        "hu": settings.hu,
        "all_series": settings.all_series,
        "names_from_source": settings.names_from_source,
        "options": {k: v for k, v in settings.options.items() if v is not None and v is not False},
        "bundle": {path.relative_to(root).as_posix(): hash_file(path) for path in files},
        "encoder": settings.encoder_weights and hash_file(settings.encoder_weights),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
