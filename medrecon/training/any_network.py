"""The settings of a training of decoders for any network: what the bundle `any_network` is filled in with."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.bundle.workflow import encoder_of
from medrecon.encoders.naming import in_order
from medrecon.errors import UsageError
from medrecon.reconstructor import INPUT, parse_layers

PAIR = 0.2
"""How often two layers are inverted together, where each alone counts 1."""

_ALL_PAIRS = 6
"""Of at most so many layers each pair is trained; of more, those that follow one another."""

_VOXELS = 6 * 128**2
"""Of a batch of slices; a volume is a batch of its own."""

_WIDTHS = {2: [32, 64, 96, 160, 256], 3: [16, 32, 96, 128, 192]}
_GENERATIVE = {2: ([48, 80, 128, 128], [2, 2, 2, 2]), 3: ([24, 48, 96], [1, 1, 2])}


def network_settings(
    recipe: Mapping[str, Any],
    layers: str | Sequence[str],
    weights: str | Path | None = None,
    channels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Ids of the train.yaml of `any_network`, and their values, for layers of a network.

    Args:
        recipe: what `medrecon.encoders.build_encoder` takes, "weights" apart, as plain values.
        layers: "relu2_2,relu3_3", or a list; a plus asks for a pair to be trained together as often as one.
        weights: the file of its weights.
        channels: of a network of several scans: name -> pattern of file names; decoders give back the first.

    Raises:
        ModelError: the network cannot be built, or a layer cannot be tapped.
        UsageError: no layer is named, the channels are not the network's, or a value that a configuration
            takes for code.
    """
    results = layers.split(",") if isinstance(layers, str) else list(layers)
    asked = ["+".join(parse_layers(result)) for result in results]
    wanted = list(dict.fromkeys(name for result in asked for name in parse_layers(result)))
    if not wanted or INPUT in wanted:
        raise UsageError("no layer to train a decoder for", remedy="name layers of the network with --layers")
    named = written(recipe) | {"layers": wanted}
    file, patterns = named_weights(weights), dict(channels or {})
    if patterns:
        named["first_channel"] = next(iter(patterns))
    _refuse_code([file, *map(str, named.values()), *wanted, *patterns, *patterns.values()])
    encoder = encoder_of(named, file)
    if patterns:
        patterns = dict(zip(encoder.channel_names, in_order(encoder.channel_names, patterns), strict=True))
    from medrecon.training.patches import patch_of  # brings MONAI: only for a network that is sound

    names = [info.name for info in encoder.layers()]
    size, dims = patch_of(encoder), encoder.spatial_dims
    return {
        "encoder": named,
        "encoder_weights": file,
        "channels": patterns,
        "patch_size": size,
        "batch_size": max(1, _VOXELS // math.prod(size)) if dims == 2 else 1,
        "training_results": training_results(names) | {result: 1.0 for result in asked if "+" in result},
        "decoder_widths": _WIDTHS[dims],
        "generative_widths": _GENERATIVE[dims][0],
        "generative_depths": _GENERATIVE[dims][1],
    }


def written(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What `build_encoder` takes, for a configuration: arguments as JSON, which MONAI does not look into."""
    arguments = recipe.get("arguments")
    kept = {name: value for name, value in recipe.items() if value is not None and name != "arguments"}
    if not arguments:
        return kept
    return {**kept, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}


def named_weights(weights: str | Path | None) -> str:
    """Weights as a configuration names them: a file's absolute path, "random" as it is, "" for none."""
    if weights is None:
        return ""
    return str(Path(weights).absolute()) if Path(weights).exists() else str(weights)


def training_results(names: Sequence[str]) -> dict[str, float]:
    """How often a training inverts which layers: each alone, and pairs, so that they can be joined."""
    every = len(names) <= _ALL_PAIRS
    pairs = itertools.combinations(names, 2) if every else itertools.pairwise(names)
    return {**dict.fromkeys(names, 1.0), **{f"{a}+{b}": PAIR for a, b in pairs}}


def single_layers(results: Iterable[str]) -> list[str]:
    """Of the results of a training those of one layer: what a generative decoder is for."""
    return [result for result in results if len(parse_layers(result)) == 1]


def decoders_of(start_from: str | Path | None) -> str:
    """The weights of the decoders that a generative one is trained beside.

    Args:
        start_from: a run of `medrecon train --encoder`, or the file of its weights.

    Raises:
        UsageError: there is no such run or file, or none is named.
    """
    place = None if start_from is None else Path(start_from)
    file = place / "models" / "model.pt" if place and place.is_dir() else place
    if file is None or not file.is_file():
        raise UsageError(
            "a generative decoder is trained beside trained decoders" + (f": no {file}" if file else ""),
            remedy="train these first, without --overlay generative; then --set start_from=RUN",
        )
    return str(file.absolute())


def _refuse_code(texts: Sequence[str]) -> None:
    for text in texts:
        if text[:1] in ("$", "@", "%") or "#" in text.removeprefix("{"):
            if text.startswith("{"):
                continue  # JSON, in which each # is put back
            raise UsageError(f"'{text}' means something else in a configuration", remedy="rename it")
