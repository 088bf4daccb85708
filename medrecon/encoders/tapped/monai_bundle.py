"""The network of any MONAI bundle as an encoder, with its weights and its own preprocessing."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from medrecon.blocks.weights import fit_weights, read_weights
from medrecon.contract import Decoder, Encoder
from medrecon.encoders.frozen import Frozen, FrozenEncoder
from medrecon.encoders.tapped.bundle_code import build, check_arguments, open_config
from medrecon.encoders.tapped.checkpoint import RANDOM
from medrecon.encoders.tapped.folders import config_of
from medrecon.encoders.tapped.preprocessing import Preprocessing
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.encoders.tapped.told import NETWORKS, choice, network_id
from medrecon.errors import MedreconError, ModelError

logger = logging.getLogger(__name__)

_WEIGHTS = ("models/model.pt", "models/model.safetensors", "models/model.pth")
_LOADS = re.compile(r"load(?:_old)?_state_dict\(")
_REFERENCE = re.compile(r"@([\w#]+)")


def bundle_encoder(
    folder: str | Path,
    *,
    weights: str | Path | None = None,
    sha256: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    intensity: nn.Module | None = None,
    window: Sequence[int] | None = None,
    network: str | None = None,
    layers: str | Iterable[str] | None = None,
    **options: Any,
) -> Frozen:
    """The network of a bundle, frozen, with its weights, its intensities, its window and its geometry.

    From configs/inference.*: the network (`network_def`, or the one named); the steps of `preprocessing` that
    change the image, of which the intensity maps become part of the encoder and the transforms of the grid
    its `geometry`; the region of the sliding window becomes `window`. Nothing else of it is built. Building
    runs the bundle's code, which finds its own `scripts`.

    Args:
        folder: the bundle.
        weights: instead of those that its configuration loads, or models/model.pt.
        sha256: expected SHA-256 of the weights, None for any.
        overrides: configuration id -> value, such as {"network_def#in_channels": 1}; "_leave_out_" lists
            arguments that the class no longer takes.
        intensity: instead of the bundle's own intensity maps.
        window: instead of the bundle's own.
        network: the id of its network in the configuration, where there are several.
        layers: as for `TappedEncoder`.
        options: further ones of `TappedEncoder`.

    Raises:
        ModelError: no bundle, no weights, weights that do not fit, a network that cannot be tapped, or
            preprocessing that cannot be honoured.
    """
    root = Path(folder)
    file = config_of(root)
    if not file.is_file():
        raise ModelError(
            "not a MONAI bundle: it has no configs/inference.json or .yaml", path=root, remedy="name a bundle"
        )
    changes = dict(overrides or {})
    parser = open_config(root, file, changes, tuple(changes.pop("_leave_out_", ())))
    key = network_id(_config(parser), network, root)
    if weights is not None and "encoder_weights" in parser:
        parser["encoder_weights"] = Path(weights)
    check_arguments(parser, key, root)
    _without_missing_files(parser, key)
    built = build(parser, key, root)
    if not isinstance(built, nn.Module):
        raise ModelError(f"its '{key}' is no network", path=root, remedy=choice(_config(parser)))
    halves = dict(built.named_children())
    own = halves.get("encoder")
    if isinstance(own, Encoder) and isinstance(halves.get("inversion"), Decoder):
        return _own_encoder(own, root)
    honoured = Preprocessing.of(parser, root, wanted=intensity is None)
    for note in honoured.notes:
        logger.warning("%s: %s", root, note)
    return TappedEncoder(
        built.cpu(),
        layers,
        intensity=intensity if intensity is not None else honoured.intensity(),
        window=window if window is not None else _region(parser, root),
        weights=weights if weights is not None else _weights_of(parser, key, root),
        sha256=sha256,
        geometry=honoured.geometry,
        notes=honoured.notes,
        scale=honoured.scale if intensity is None else None,
        units=honoured.units if intensity is None else "",
        channel_names=honoured.channels,
        empty=honoured.empty,
        **options,
    )


def _config(parser: ConfigParser) -> dict[str, Any]:
    """What the configuration says, as it was read."""
    content: Any = parser.config
    return dict(content)


def _own_encoder(encoder: Encoder, root: Path) -> Frozen:
    """The encoder of a bundle of medrecon's, with what models/model.pt holds of it."""
    start = "encoder."
    if not isinstance(encoder, Frozen):
        file = root / _WEIGHTS[0]
        if not file.is_file():
            raise _no_weights(root)
        state = {k.removeprefix(start): v for k, v in read_weights(file).items() if k.startswith(start)}
        fit_weights(encoder, state, file)
    return encoder if isinstance(encoder, Frozen) else FrozenEncoder(encoder)


def _without_missing_files(parser: ConfigParser, key: str) -> None:
    """Weights that the class itself would load, and that are not there: ours come afterwards."""
    part = parser[key]
    if isinstance(part, Mapping) and "checkpoint" in part:
        file = parser.get_parsed_content(f"{key}#checkpoint")
        if isinstance(file, str) and not Path(file).is_file():
            parser[f"{key}#checkpoint"] = None


def _weights_of(parser: ConfigParser, key: str, root: Path) -> Path:
    """The checkpoint that the configuration loads into this network, else the usual one."""
    names = {key} | {
        name for name, value in _config(parser).items() if isinstance(value, str) and f"@{key}" in value
    }
    named = _loaded_by_handlers(parser, names) or _loaded_by_expressions(parser, names)
    if named is not None:
        file = root / named
        if file.is_file() or key not in NETWORKS:
            if not file.is_file():
                raise _no_weights(root, str(named))
            return file
    found = next((root / name for name in _WEIGHTS if (root / name).is_file()), None)
    if found is None:
        raise _no_weights(root, None if named is None else str(named))
    return found


def _no_weights(root: Path, file: str | None = None) -> ModelError:
    name = _WEIGHTS[0]
    if file is not None:
        name = (
            str(Path(file).relative_to(root.resolve())) if Path(file).is_relative_to(root.resolve()) else file
        )
    return ModelError(
        f"the bundle has no {name}",
        path=root,
        remedy="download it (large_files.yml names the address), or give its weights; --weights "
        f"{RANDOM} goes without",
    )


def _loaded_by_handlers(parser: ConfigParser, names: set[str]) -> str | None:
    """What a CheckpointLoader of the configuration puts into one of these ids."""
    for place, part in _parts(parser.config, ""):
        if str(part.get("_target_", "")).rpartition(".")[2] != "CheckpointLoader":
            continue
        targets = part.get("load_dict")
        if isinstance(targets, Mapping) and {str(t).lstrip("@") for t in targets.values()} & names:
            return _path(parser, f"{place}#load_path")
    return None


def _loaded_by_expressions(parser: ConfigParser, names: set[str]) -> str | None:
    """What an expression `@network.load_state_dict(...)` reads."""
    for text in (value for value in _config(parser).values() if isinstance(value, str)):
        found = _LOADS.search(text)
        if found and set(_REFERENCE.findall(text[: found.start()])) & names:
            rest = text[found.end() :]
            for _ in range(3):
                inner = _REFERENCE.search(rest)
                if inner is None:
                    break
                value = _config(parser).get(inner[1])
                if not (isinstance(value, str) and "torch.load" in value):
                    return _path(parser, inner[1])
                rest = value
    return None


def _path(parser: ConfigParser, key: str) -> str | None:
    try:
        return str(parser.get_parsed_content(key))
    except Exception:
        return None  # it depends on what is not there; the usual place remains


def _parts(content: Any, place: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """All mappings within a configuration, with their ids."""
    if isinstance(content, Mapping):
        if place:
            yield place, content
        for key, value in content.items():
            yield from _parts(value, f"{place}#{key}" if place else str(key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _parts(value, f"{place}#{number}")


def _region(parser: ConfigParser, root: Path) -> tuple[int, ...] | None:
    """The size of the sliding window, where the bundle uses one; its inferer is not built."""
    part = _config(parser).get("inferer")
    if not isinstance(part, Mapping) or "roi_size" not in part:
        return None
    try:
        size = build(parser, "inferer#roi_size", root)
        sizes = (size,) if isinstance(size, int) else tuple(int(n) for n in size)
    except (MedreconError, TypeError, ValueError):
        return None
    return sizes if len(sizes) > 1 and all(n > 0 for n in sizes) else None
