"""What a decoder is given: the layers that it is for, and their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from medrecon.contract import Features, LayerInfo
from medrecon.errors import ModelError


def layers_to_invert(layers: Sequence[LayerInfo], names: Sequence[str] | None = None) -> list[LayerInfo]:
    """Those of an encoder's layers that are named, in the order of the names; all where none are.

    Raises:
        ModelError: there is no such layer, or none at all.
    """
    by_name = {info.name: info for info in layers}
    unknown = [name for name in names or () if name not in by_name]
    chosen = [by_name[name] for name in names] if names is not None and not unknown else list(layers)
    if unknown or not chosen:
        wrong = f"has no layer {unknown[0]!r} to invert" if unknown else "gives no layer to invert"
        raise ModelError(f"the encoder {wrong}", remedy=f"its layers: {', '.join(by_name) or 'none'}")
    return chosen


def levels_given(features: Features, names: Sequence[str]) -> list[str]:
    """The names of the features, in the decoder's order.

    Raises:
        ModelError: there is none, or one that the decoder does not know.
    """
    given = [name for name in names if name in features]
    if not given or len(given) != len(features):
        raise ModelError(f"the decoder was given {sorted(features)}", remedy=f"give levels out of {names}")
    return given


def features_given(features: Features, infos: Mapping[str, LayerInfo]) -> Features:
    """The features as maps, (B, C, *positions): a latent vector (B, C) as one of one position.

    Args:
        features: a subset of the layers.
        infos: those that the decoder knows.

    Raises:
        ModelError: no layer, an unknown one, or features of another form.
    """
    unknown = [name for name in features if name not in infos]
    if unknown or not features:
        wrong = f"{unknown[0]!r} was given" if unknown else "no layer was given"
        raise ModelError(
            f"this decoder inverts {', '.join(infos)}; {wrong}", remedy="ask for layers it inverts"
        )
    return {name: _map_of(value, infos[name]) for name, value in features.items()}


def _map_of(value: torch.Tensor, info: LayerInfo) -> torch.Tensor:
    axes = len(info.stride)
    made = value.reshape(*value.shape, *(1,) * axes) if value.ndim == 2 else value
    if made.ndim != axes + 2 or made.shape[1] != info.channels:
        raise ModelError(
            f"features of {info.name} have {info.channels} channels and {axes} axes, "
            f"these have shape {tuple(value.shape)}",
            remedy="use features of the encoder that this decoder was built for",
        )
    return made
