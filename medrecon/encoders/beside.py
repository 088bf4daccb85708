"""An encoder of several scans as channels, one of them first: the one that a decoder gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch

from medrecon.contract import Encoder, Features
from medrecon.encoders.frozen import FrozenEncoder
from medrecon.errors import ModelError, UsageError, near

Given = TypeVar("Given")
_ONE = "it takes one scan: leave --encoder-channels out"


class ScansBeside(FrozenEncoder):
    """A frozen encoder whose images begin with a channel of choice; the others follow in their order.

    So whatever comes of an image, be it cut, compared or given back, its first channel is the scan in
    question, and those beside it are what the network is told of it besides.

    Args:
        encoder: of several `channel_names`; frozen in place, not copied.
        first: the name of the channel to come first, in any case.

    Raises:
        UsageError: it has no such channel.
    """

    def __init__(self, encoder: Encoder, first: str) -> None:
        super().__init__(encoder)
        names = list(encoder.channel_names)
        known = [name.casefold() for name in names]
        if first.casefold() not in known:
            raise UsageError(
                f"the network has no channel '{first}'" + near(first, names),
                remedy=f"its channels are {', '.join(names)}" if names else _ONE,
            )
        place = known.index(first.casefold())
        self._order = [place, *(k for k in range(len(names)) if k != place)]
        self._back = [self._order.index(k) for k in range(len(names))]
        self.channel_names, self.channels_needed = tuple(names[k] for k in self._order), True

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        """Features of `image` (B, C, *spatial); raises what the encoder raises, and where channels miss."""
        return super().forward(self._as_trained(image), names)

    def conditioned_on(self, whole: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Within: images are taken as parts of this whole, its channels in the same order."""
        return super().conditioned_on(self._as_trained(whole))

    def _as_trained(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[1] != len(self._back):
            raise ModelError(
                f"this encoder takes {len(self._back)} scans as channels, not {image.shape[1]}",
                remedy=f"give one for each of {', '.join(self.channel_names)}",
            )
        return image[:, self._back]


def in_order(encoder: Encoder, given: Mapping[str, Given]) -> tuple[Given, ...]:
    """What is given for each of an encoder's channels, in their order.

    Args:
        encoder: whose `channel_names` are told apart by name, in any case.
        given: name -> a scan, or whatever stands for it.

    Raises:
        UsageError: a name that it does not have, or a channel that is missing.
    """
    names = encoder.channel_names
    if not names:
        raise UsageError("the network takes one scan", remedy=_ONE)
    by_name = {name.casefold(): each for name, each in given.items()}
    known = [name.casefold() for name in names]
    for name in by_name:
        if name not in known:
            raise UsageError(
                f"the network has no channel '{name}'" + near(name, known),
                remedy=f"its channels are {', '.join(names)}",
            )
    for name in names:
        if name.casefold() not in by_name:
            raise UsageError(
                f"the channel '{name}' is missing",
                remedy=f"name a scan for each of {', '.join(names)}",
            )
    return tuple(by_name[name] for name in known)
