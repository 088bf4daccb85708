"""Single channels of an encoder's layers, as layers of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders.frozen import FrozenEncoder
from medrecon.encoders.naming import resolve_layers
from medrecon.errors import ModelError

_CHANNEL = re.compile(r"(.+)\[(0|[1-9][0-9]{0,8})\]")


def find_channels(names: Iterable[str], layers: Sequence[LayerInfo]) -> dict[str, tuple[str, int]]:
    """Those of the names that mean a channel of a layer: name -> (layer, channel, counted from 0).

    `conv[3]` is a channel where `conv` is a layer, and `conv[3]`, a part of its result, is none.

    Raises:
        ModelError: a layer does not have so many channels.
    """
    counts = {info.name: info.channels for info in layers}
    found = {}
    for name in names:
        match = None if name in counts else _CHANNEL.fullmatch(name)
        if match is None or match[1] not in counts:
            continue
        layer, channel = match[1], int(match[2])
        if channel >= counts[layer]:
            raise ModelError(
                f"layer {layer} has no channel {channel}",
                remedy=f"its channels are {layer}[0] to {layer}[{counts[layer] - 1}]",
            )
        found[name] = layer, channel
    return found


class ChannelsEncoder(FrozenEncoder):
    """A frozen encoder that offers single channels too, each a layer of one feature map: `layer[3]`.

    Args:
        encoder: frozen in place, not copied.
        names: the channels to offer; other names are left out.

    Raises:
        ModelError: a layer does not have so many channels.
    """

    def __init__(self, encoder: Encoder, names: Iterable[str]) -> None:
        super().__init__(encoder)
        self.channels = find_channels(names, encoder.layers())

    def layers(self) -> list[LayerInfo]:
        """The layers of the encoder, each with those of its channels that are offered behind it."""
        return self._with_channels(super().layers())

    def measure(self) -> list[LayerInfo]:
        """The same with their receptive fields; a channel sees what its layer sees."""
        return self._with_channels(super().measure())

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image` (B, C, *spatial), a channel as (B, 1, *positions)."""
        wanted = resolve_layers(names, [info.name for info in self.layers()])
        places = {name: self.channels.get(name, (name, None)) for name in wanted}
        found = super().forward(image, dict.fromkeys(layer for layer, _ in places.values()))
        return {
            name: found[layer] if channel is None else found[layer][:, channel : channel + 1]
            for name, (layer, channel) in places.items()
        }

    def _with_channels(self, layers: Iterable[LayerInfo]) -> list[LayerInfo]:
        offered = []
        for info in layers:
            own = [name for name, (layer, _) in self.channels.items() if layer == info.name]
            offered += [info, *(replace(info, name=name, channels=1, mean_rate=None) for name in own)]
        return offered
