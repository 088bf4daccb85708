"""A bundle's two halves: the one that encodes, and the one that decodes without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medrecon.blocks.weights import digest, fingerprint
from medrecon.bundle.config import Bundle, bundle_names
from medrecon.bundle.workflow import load_inversion
from medrecon.contract import LayerInfo
from medrecon.errors import ModelError
from medrecon.features.file import FeatureFile
from medrecon.reconstructor import Reconstructor


@dataclass(frozen=True)
class Model:
    """A bundle whose network is built.

    Attributes:
        bundle: the opened bundle.
        network: its `Reconstructor`, on `device`.
        device: where it runs.
        fingerprint: of the encoder's weights; "" where the bundle does not say it.
        weights_sha256: hash of the bundle's weights file, "" where there is none.
    """

    bundle: Bundle
    network: Reconstructor
    device: torch.device
    fingerprint: str
    weights_sha256: str

    @property
    def name(self) -> str:
        """The model's name, as its metadata says."""
        return str(self.bundle.meta.get("name", self.bundle.name))

    @property
    def layers(self) -> dict[str, LayerInfo]:
        """Name -> layer, shallow to deep: those that the bundle inverts."""
        return {layer.name: layer for layer in self.network.layers()}

    @property
    def dims(self) -> int:
        """3 for volumes, 2 for slices."""
        return len(self.network.layers()[0].stride)

    @property
    def caveats(self) -> list[str]:
        """What must be said of features that it decodes."""
        if self.fingerprint:
            return []
        return [f"{self.name} does not say which weights its decoder was trained for: not checked"]


def open_encoder(
    bundle: str | Path,
    device: torch.device,
    encoder_weights: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Model:
    """The whole network of a bundle, with its weights.

    Args:
        bundle: name or folder.
        device: where it will run.
        encoder_weights: for bundles over frozen encoders: the file of the encoder's weights.
        overrides: further ids of configs/inference.yaml and their values.

    Raises:
        ModelError: the bundle is missing or broken, or its weights are.
    """
    settings: dict[str, Any] = {"device": str(device), **(overrides or {})}
    if encoder_weights is not None:
        settings["encoder_weights"] = Path(encoder_weights)
    opened = _open(bundle, settings)
    network = opened.network(device)
    return Model(opened, network, device, fingerprint(network.encoder), _digest(opened))


def open_decoder(bundle: str | Path, device: torch.device, samples: int | None = None) -> Model:
    """The network of a bundle, ready to decode; the weights of a frozen encoder are not needed.

    Args:
        bundle: name or folder.
        device: where it will run.
        samples: so many will be drawn; None: none.

    Raises:
        ModelError: the bundle is missing or broken, or its weights are.
    """
    opened = _open(bundle, {"device": str(device)})
    if samples is not None and "samples" in opened.parser:
        opened.parser["samples"] = samples
    if "encoder_weights" not in opened.parser:
        network = opened.network(device)
        own = fingerprint(network.encoder)
        return Model(opened, network, device, own, _digest(opened))
    network = opened.architecture()  # its encoder, with random weights, never runs
    network = load_inversion(network, opened.build("weights"), device)
    return Model(opened, network, device, network.inversion.encoder_fingerprint, _digest(opened))


def bundle_of(file: FeatureFile) -> str:
    """The bundle that features name, if it comes with medrecon: a file must not choose a folder to run.

    Raises:
        ModelError: it does not.
    """
    known = bundle_names()
    if file.facts.model in known:
        return file.facts.model
    raise ModelError(
        f"features of the model '{file.facts.model[:80]}', which does not come with medrecon",
        path=file.path,
        remedy="name its bundle's folder with --bundle",
    )


def check_fit(file: FeatureFile, model: Model, names: Sequence[str]) -> None:
    """Refuse features that a model's decoder was not made for.

    Args:
        file: the features.
        model: the decoder.
        names: the layers that will be decoded.

    Raises:
        ModelError: they are of another network, or of other weights.
    """
    facts, where = file.facts, model.bundle.root
    remedy = f"name the bundle that goes with {facts.model} {facts.model_version} (--bundle)"
    for name in names:
        stored, own = facts.layer(name), model.layers.get(name)
        if own is None or (own.channels, own.stride) != (stored.channels, stored.stride):
            there = f"{stored.channels} channels at stride {'x'.join(map(str, stored.stride))}"
            raise ModelError(
                f"features of another network: {facts.model} has {name} with {there}, {where.name} has not",
                path=file.path,
                remedy=remedy,
            )
    if model.fingerprint and facts.encoder_fingerprint != model.fingerprint:
        raise ModelError(
            f"features of other weights: encoded with {facts.encoder_fingerprint[:12]} ({facts.model} "
            f"{facts.model_version}), the decoder of {where.name} is for {model.fingerprint[:12]}",
            path=file.path,
            remedy="encode again with this bundle, or use the bundle and weights that they were encoded with",
        )


def _open(bundle: str | Path, settings: Mapping[str, Any]) -> Bundle:
    opened = Bundle.open(bundle, settings)
    opened.require("network_def", "network", "preprocessing")
    return opened


def _digest(bundle: Bundle) -> str:
    return digest(Path(bundle.build("weights"))) if "weights" in bundle.parser else ""
