"""What a folder tells of its network before torch is imported: whether one can come of it, what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecon.encoders.tapped.folders import (
    checkpoint_of,
    config_of,
    is_bundle,
    is_nnunet,
    is_pretrained,
    which_model,
)
from medrecon.encoders.tapped.plans import read_plans
from medrecon.errors import ModelError, near

NETWORKS = ("network_def", "network", "net")
"""Ids under which the configuration of a bundle has its network."""


@dataclass(frozen=True)
class Told:
    """What is known of a network without it.

    Attributes:
        units: "HU" where it takes nothing else; "" where it does, or is not known.
        channel_names: of the scans that it takes as channels; None where they are not known.
    """

    units: str = ""
    channel_names: tuple[str, ...] | None = None


def told_by(
    folder: Path,
    network: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    brought: bool = False,
) -> Told:
    """What the files of a folder tell; one that no network can come of is refused.

    Args:
        folder: as for `build_encoder`.
        network: which of its networks.
        arguments: of the network.
        brought: its weights come from elsewhere.

    Raises:
        ModelError: it is none of the forms that are known, has no such network, configuration or fold, or
            plans that cannot be honoured.
    """
    if is_bundle(folder):
        network_id(_config_in(folder), network, folder)
        return Told()
    if is_nnunet(folder):
        model, _, fold = which_model(folder, network)
        if not brought:
            checkpoint_of(model, fold)
        plans = read_plans(folder, network)
        own = (arguments or {}).get("_intensity_") is None
        names = plans.channel_names
        return Told(plans.units if own else "", names if names or len(plans.channels) == 1 else None)
    if not is_pretrained(folder):
        raise ModelError(
            "it is neither a MONAI bundle (configs/inference.json or .yaml), nor a trained model of nnU-Net "
            "(plans.json), nor one of transformers, diffusers or segmentation_models_pytorch (config.json)",
            path=folder,
            remedy="name one of these",
        )
    return Told()


def network_id(config: Mapping[str, Any] | None, wanted: str | None, root: Path) -> str:
    """The id of a bundle's network: the one that is wanted, or the usual one.

    Args:
        config: its inference configuration; None where that is not known yet: then nothing is refused.
        wanted: what the user named.
        root: the bundle.

    Raises:
        ModelError: the configuration has no such id, or several networks and none of the usual name.
    """
    if config is None:
        return wanted or NETWORKS[0]
    if wanted is not None:
        if _holds(config, wanted):
            return wanted
        raise ModelError(
            f"its configuration has no '{wanted}'" + near(wanted, _candidates(config)),
            path=root,
            remedy=choice(config),
        )
    found = next((name for name in NETWORKS if name in config), None)
    if found is None:
        raise ModelError("its inference configuration has no network_def", path=root, remedy=choice(config))
    return found


def choice(config: Mapping[str, Any]) -> str:
    """The remedy where no network is named: those that there are."""
    names = _candidates(config)
    return f"name one of {', '.join(names)} with --network" if names else "name a bundle with a network"


def _candidates(config: Mapping[str, Any]) -> list[str]:
    """The ids of what looks like networks: parts whose class is called so, or that are `..._def`."""
    return [
        key
        for key, value in config.items()
        if isinstance(value, Mapping)
        and "_target_" in value
        and (
            key.endswith("_def")
            or ".nets." in str(value["_target_"])
            or "networks." in str(value["_target_"])
        )
    ]


def _holds(config: object, key: str) -> bool:
    """Whether a configuration has an id, such as `a#b#0`."""
    for part in key.replace("::", "#").split("#"):
        if isinstance(config, Mapping) and part in config:
            config = config[part]
        elif isinstance(config, list) and part.isdecimal() and int(part) < len(config):
            config = config[int(part)]
        else:
            return False
    return True


def _config_in(folder: Path) -> dict[str, Any] | None:
    """A bundle's inference configuration as it is written; None where it cannot be read so."""
    import yaml

    file = config_of(folder)
    try:
        text = file.read_text("utf-8")
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None  # MONAI says what is wrong with it
    return content if isinstance(content, dict) else None
